//! The rule `by_key`: lists whose items are told apart by a key.

use std::collections::VecDeque;

use super::{Merge, Sides};

/// Types that the rule `by_key` is for: lists whose items say how they merge.
#[diagnostic::on_unimplemented(
    message = "the rule `by_key` does not fit the type `{Self}`",
    label = "not a `Vec`",
    note = "`by_key` is for `Vec<T>` where `T: Merge`; `deep` is for maps, `union` for sets"
)]
pub trait Keyed: Sized {
    /// The type of the lines.
    type Item;

    /// `by_key = field`: items of one key merge as their type says, in their order and then ours.
    ///
    /// Each side's first item of a key goes with the other's first, its second with the second, and so on. Where both have theirs in one order, it
    /// takes few comparisons; at most there are as many as pairs of items, which suits lists that a person fills.
    fn by_key<K: PartialEq>(sides: Sides<Self>, key: impl Fn(&Self::Item) -> &K) -> Option<Self>;
}

impl<T: Merge> Keyed for Vec<T> {
    type Item = T;

    fn by_key<K: PartialEq>(sides: Sides<Self>, key: impl Fn(&T) -> &K) -> Option<Self> {
        let removed = sides.has_removal();
        let take = |from: &mut VecDeque<T>, like: &T| {
            let at = from.iter().position(|item| key(item) == key(like))?;
            from.remove(at)
        };
        let merged = item_by_item(sides, take);
        (!merged.is_empty() || !removed).then_some(merged)
    }
}

/// Merges lists; `take` takes from a list the item that goes with one of another.
fn item_by_item<T: Merge>(
    sides: Sides<Vec<T>>,
    take: impl Fn(&mut VecDeque<T>, &T) -> Option<T>,
) -> Vec<T> {
    let occasion = sides.occasion;
    // Mostly the next one goes with the next, and is taken from the front.
    let mut base = VecDeque::from(sides.base.unwrap_or_default());
    let mut ours = VecDeque::from(sides.ours.unwrap_or_default());
    let mut merged = Vec::new();
    for theirs in sides.theirs.unwrap_or_default() {
        let sides = Sides {
            base: take(&mut base, &theirs),
            ours: take(&mut ours, &theirs),
            theirs: Some(theirs),
            occasion,
        };
        merged.extend(sides.settle(T::merge));
    }
    for ours in ours {
        let sides = Sides {
            base: take(&mut base, &ours),
            ours: Some(ours),
            theirs: None,
            occasion,
        };
        merged.extend(sides.settle(T::merge));
    }
    merged
}
