//! Merge rules: what becomes of a value that two sides changed.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

mod by_key;
mod maps;
mod precedent;

pub use by_key::Keyed;
pub use precedent::{left_precedent, retainment_precedent, right_precedent, storage_precedent};

/// Says what a merge is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Occasion {
    /// Two requests wrote the same field; `ours` is the one that is written later.
    Conflict,
    /// A guest logged in: `ours` is the guest's value, `theirs` the account's. There is no base, unless a request of the guest's
    /// was under way at the login: then `base` is the guest's value that it began with, which the account has been credited
    /// with, or is not to have.
    Login,
}

/// The three sides of a merge. A side is `None` where the field is absent.
///
/// A rule only ever sees sides that both differ from `base`: where one side left the field alone, the other
/// side's value stands, and no rule is asked.
///
/// ```
/// use session_runtime::{Session, Sides};
///
/// #[derive(Session)]
/// struct Search {
///     #[merge(with = longest)]
///     query: String,
/// }
///
/// fn longest(sides: Sides<String>) -> String {
///     let (ours, theirs) = (sides.ours.unwrap_or_default(), sides.theirs.unwrap_or_default());
///     if ours.len() > theirs.len() { ours } else { theirs }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sides<T> {
    /// The value that both sides started from: between requests the default, where nothing was stored.
    pub base: Option<T>,
    /// The value of the request that is writing, or of the guest.
    pub ours: Option<T>,
    /// The value that is stored by now, or the account's.
    pub theirs: Option<T>,
    /// The occasion: what the merge is between.
    pub occasion: Occasion,
}

impl<T> Sides<T> {
    /// Returns three sides, for a [`Merge`] of what is inside of another, or for a test of a rule.
    ///
    /// ```
    /// use session_runtime::{Merge, Occasion, Sides};
    ///
    /// #[derive(PartialEq)]
    /// struct Wrapped(Option<u8>);
    ///
    /// impl Merge for Wrapped {
    ///     fn merge(sides: Sides<Self>) -> Option<Self> {
    ///         let [base, ours, theirs] = [sides.base, sides.ours, sides.theirs].map(|side| side?.0);
    ///         u8::merge(Sides::new(base, ours, theirs, sides.occasion)).map(|inner| Self(Some(inner)))
    ///     }
    /// }
    /// # let wrapped = |n| Some(Wrapped(Some(n)));
    /// # let merged = Wrapped::merge(Sides::new(wrapped(1), wrapped(2), wrapped(3), Occasion::Conflict));
    /// # assert!(merged == wrapped(2));
    /// ```
    pub fn new(base: Option<T>, ours: Option<T>, theirs: Option<T>, occasion: Occasion) -> Self {
        Self {
            base,
            ours,
            theirs,
            occasion,
        }
    }

    /// Returns `true` if one side has removed what was there.
    fn has_removal(&self) -> bool {
        self.base.is_some() && (self.ours.is_none() || self.theirs.is_none())
    }

    /// Returns what `part` finds in each side.
    fn each<U>(self, part: impl Fn(T) -> Option<U>) -> Sides<U> {
        Sides {
            base: self.base.and_then(&part),
            ours: self.ours.and_then(&part),
            theirs: self.theirs.and_then(&part),
            occasion: self.occasion,
        }
    }
}

impl<T: PartialEq> Sides<T> {
    /// Returns the side that changed, if only one did; else what `rule` makes of both.
    fn settle(self, rule: impl FnOnce(Self) -> Option<T>) -> Option<T> {
        if self.ours == self.base {
            self.theirs
        } else if self.theirs == self.base {
            self.ours
        } else {
            rule(self)
        }
    }
}

/// No rule: the later writer wins.
pub fn later<T>(sides: Sides<T>) -> Option<T> {
    sides.ours
}

/// `user`: at login the account's value if present, else the later writer.
pub fn user<T>(sides: Sides<T>) -> Option<T> {
    match sides.occasion {
        Occasion::Login => sides.theirs.or(sides.ours),
        Occasion::Conflict => sides.ours,
    }
}

/// `guest`: at login the guest's value if present, else the later writer.
pub fn guest<T>(sides: Sides<T>) -> Option<T> {
    match sides.occasion {
        Occasion::Login => sides.ours.or(sides.theirs),
        Occasion::Conflict => sides.ours,
    }
}

/// `max`: the greatest.
pub fn max<T: Ordered>(sides: Sides<T>) -> Option<T> {
    sides.ours.max(sides.theirs)
}

/// `min`: the least of those present.
pub fn min<T: Ordered>(sides: Sides<T>) -> Option<T> {
    match (sides.ours, sides.theirs) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    }
}

/// `sum`: both sides' differences from the base.
pub fn sum<T: Sum>(sides: Sides<T>) -> Option<T> {
    T::sum(sides)
}

/// `append`: the base, with both sides' additions.
pub fn append<T: Append>(sides: Sides<T>) -> Option<T> {
    T::append(sides)
}

/// `union`: both sides' additions, without either side's removals.
pub fn union<T: Union>(sides: Sides<T>) -> Option<T> {
    T::union(sides)
}

/// `deep`: per key or per field.
pub fn deep<T: Merge>(sides: Sides<T>) -> Option<T> {
    T::merge(sides)
}

/// Merges two structs as `#[derive(Merge)]` does: their `parts`, if both sides have one. A change outlives
/// a removal, whichever came first.
pub fn field_by_field<T>(
    sides: Sides<T>,
    parts: impl FnOnce(Option<T>, T, T, Occasion) -> Option<T>,
) -> Option<T> {
    match (sides.ours, sides.theirs) {
        (Some(ours), Some(theirs)) => parts(sides.base, ours, theirs, sides.occasion),
        (ours, theirs) => ours.or(theirs),
    }
}

/// Merges one of those parts.
pub fn part<T: PartialEq>(
    rule: fn(Sides<T>) -> Option<T>,
    base: Option<T>,
    ours: T,
    theirs: T,
    occasion: Occasion,
) -> Option<T> {
    let (ours, theirs) = (Some(ours), Some(theirs));
    let sides = Sides {
        base,
        ours,
        theirs,
        occasion,
    };
    sides.settle(rule)
}

/// Types that the rules `max` and `min` are for: those that implement `Ord`.
#[diagnostic::on_unimplemented(
    message = "the rules `max` and `min` do not fit the type `{Self}`",
    label = "does not implement `Ord`",
    note = "`max` and `min` are for types with a total order; derive `Ord` for it, or name another rule"
)]
pub trait Ordered: Ord {}

#[diagnostic::do_not_recommend]
impl<T: Ord> Ordered for T {}

/// Types that the rule `sum` is for: integers, and maps of them, per key.
///
/// The result is clamped to the type. A number that one side removed stays removed if the other side's change leaves
/// nothing of it: of a number above zero nothing above zero, of one below zero nothing below. One that was not there
/// before is never removed, whatever the sum.
#[diagnostic::on_unimplemented(
    message = "the rule `sum` does not fit the type `{Self}`",
    label = "not an integer, nor a map of integers",
    note = "`sum` is for integers and for maps of integers; `append` is for sequences, `union` for sets, `deep` for other maps"
)]
pub trait Sum: Sized {
    /// Merges by sum.
    fn sum(sides: Sides<Self>) -> Option<Self>;
}

macro_rules! sum_of_integers {
    ($($int:ty, $add:ident, $sub:ident;)*) => {
        $(impl Sum for $int {
            fn sum(sides: Sides<Self>) -> Option<Self> {
                let removed = sides.has_removal();
                let zero = |side: Option<Self>| side.unwrap_or(0);
                let (base, ours, theirs) = (zero(sides.base), zero(sides.ours), zero(sides.theirs));
                let difference = ours.abs_diff(base);
                let sum = if ours >= base { theirs.$add(difference) } else { theirs.$sub(difference) };
                let is_left = sum != 0 && (base == 0 || sum.cmp(&0) == base.cmp(&0));
                (is_left || !removed).then_some(sum)
            }
        })*
    };
}

sum_of_integers! {
    u8, saturating_add, saturating_sub;
    u16, saturating_add, saturating_sub;
    u32, saturating_add, saturating_sub;
    u64, saturating_add, saturating_sub;
    u128, saturating_add, saturating_sub;
    usize, saturating_add, saturating_sub;
    i8, saturating_add_unsigned, saturating_sub_unsigned;
    i16, saturating_add_unsigned, saturating_sub_unsigned;
    i32, saturating_add_unsigned, saturating_sub_unsigned;
    i64, saturating_add_unsigned, saturating_sub_unsigned;
    i128, saturating_add_unsigned, saturating_sub_unsigned;
    isize, saturating_add_unsigned, saturating_sub_unsigned;
}

/// Types that the rule `append` is for: sequences.
#[diagnostic::on_unimplemented(
    message = "the rule `append` does not fit the type `{Self}`",
    label = "not a sequence whose items can be compared",
    note = "`append` is for `Vec<T>` and `VecDeque<T>` where `T: PartialEq`; `union` is for sets, `sum` for numbers, `deep` for maps"
)]
pub trait Append: Sized {
    /// Merges by appending.
    fn append(sides: Sides<Self>) -> Option<Self>;
}

/// Types that the rule `union` is for: sets, and sequences without repeats.
#[diagnostic::on_unimplemented(
    message = "the rule `union` does not fit the type `{Self}`",
    label = "not a set, nor a sequence whose items can be compared",
    note = "`union` is for `BTreeSet`, `HashSet`, and for `Vec<T>` and `VecDeque<T>` where `T: PartialEq`; `sum` is for numbers, `deep` for maps"
)]
pub trait Union: Sized {
    /// Merges by union.
    fn union(sides: Sides<Self>) -> Option<Self>;
}

/// The items of `side` that are not in `base`, each occurrence counted, in order.
fn additions<T: PartialEq>(side: Vec<T>, base: &[T]) -> Vec<T> {
    // Mostly the next one goes with the next, and is taken from the front.
    let mut unmatched: VecDeque<&T> = base.iter().collect();
    side.into_iter()
        .filter(
            |item| match unmatched.iter().position(|other| *other == item) {
                Some(at) => {
                    unmatched.remove(at);
                    false
                }
                None => true,
            },
        )
        .collect()
}

impl<T: PartialEq> Append for Vec<T> {
    fn append(sides: Sides<Self>) -> Option<Self> {
        let base = sides.base.unwrap_or_default();
        let ours = additions(sides.ours.unwrap_or_default(), &base);
        let theirs = sides.theirs.unwrap_or_default();
        if sides.occasion == Occasion::Login {
            return Some(theirs.into_iter().chain(ours).collect());
        }
        let theirs = additions(theirs, &base);
        Some(base.into_iter().chain(theirs).chain(ours).collect())
    }
}

impl<T: PartialEq> Append for VecDeque<T> {
    fn append(sides: Sides<Self>) -> Option<Self> {
        append(sides.each(|side| Some(Vec::from(side)))).map(Self::from)
    }
}

/// Looks for the items of one list in another, each from where the one before was found: they mostly come in the same order.
struct Search<'a, T> {
    list: &'a [T],
    next: usize,
}

impl<'a, T: PartialEq> Search<'a, T> {
    fn through(list: &'a [T]) -> Self {
        Self { list, next: 0 }
    }

    fn has(&mut self, item: &T) -> bool {
        let (before, after) = self.list.split_at(self.next);
        let at = |list: &[T]| list.iter().position(|other| other == item);
        let found = at(after).map(|at| before.len() + at).or_else(|| at(before));
        self.next = found.map_or(self.next, |at| at + 1);
        found.is_some()
    }
}

impl<T: PartialEq> Union for Vec<T> {
    fn union(sides: Sides<Self>) -> Option<Self> {
        let base = sides.base.unwrap_or_default();
        let ours = sides.ours.unwrap_or_default();
        let mut union = sides.theirs.unwrap_or_default();
        let (mut in_ours, mut in_base) = (Search::through(&ours), Search::through(&base));
        union.retain(|item| in_ours.has(item) || !in_base.has(item));
        let mut in_base = Search::through(&base);
        for item in ours {
            if !in_base.has(&item) && !union.contains(&item) {
                union.push(item);
            }
        }
        Some(union)
    }
}

impl<T: PartialEq> Union for VecDeque<T> {
    fn union(sides: Sides<Self>) -> Option<Self> {
        union(sides.each(|side| Some(Vec::from(side)))).map(Self::from)
    }
}

macro_rules! union_of_sets {
    ($($set:ty, [$($generics:tt)*];)*) => {
        $(impl<$($generics)*> Union for $set {
            fn union(sides: Sides<Self>) -> Option<Self> {
                let base = sides.base.unwrap_or_default();
                let ours = sides.ours.unwrap_or_default();
                let mut union = sides.theirs.unwrap_or_default();
                union.retain(|item| ours.contains(item) || !base.contains(item));
                union.extend(ours.into_iter().filter(|item| !base.contains(item)));
                Some(union)
            }
        })*
    };
}

union_of_sets! {
    BTreeSet<T>, [T: Ord];
    HashSet<T, S>, [T: Eq + Hash, S: BuildHasher + Default];
}

/// Types whose parts merge, which the rules `deep` and `by_key` are for: maps, and structs of the app.
///
/// It is implemented for the plain types (the later writer wins), for `Option` (what is inside merges), for maps (per
/// key, and on within the values), and for [`serde_json::Value`] (objects per key). For a struct it is derived:
///
/// ```
/// use session_runtime::{Merge, Session};
///
/// #[derive(Session)]
/// struct Shop {
///     #[merge(by_key = sku)]
///     cart: Vec<Line>,
/// }
///
/// #[derive(Merge, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Line {
///     sku: String,
///     #[merge(sum)]
///     quantity: u32,
///     #[merge(max)]
///     added_at: u64,
/// }
/// ```
///
/// Or written by hand, for what no rule says:
///
/// ```
/// use session_runtime::{Merge, Sides};
///
/// #[derive(PartialEq)]
/// struct Progress {
///     percent: u8,
/// }
///
/// impl Merge for Progress {
///     fn merge(sides: Sides<Self>) -> Option<Self> {
///         let further = sides.ours.into_iter().chain(sides.theirs);
///         further.max_by_key(|progress| progress.percent)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "nothing says how the parts of `{Self}` merge",
    label = "does not implement `Merge`",
    note = "`deep` and `by_key` merge part by part; derive `session_runtime::Merge` for a struct of yours, or name another rule"
)]
pub trait Merge: Sized + PartialEq {
    /// Returns what becomes of a value that both sides changed; `None` removes it.
    fn merge(sides: Sides<Self>) -> Option<Self>;
}

macro_rules! leaves {
    ($($type:ty),* $(,)?) => {
        $(impl Merge for $type {
            fn merge(sides: Sides<Self>) -> Option<Self> {
                later(sides)
            }
        })*
    };
}

leaves! {
    bool, char, String, (), f32, f64,
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize,
}

/// `None` is as good as absent: what merges is what is inside.
impl<T: Merge> Merge for Option<T> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        let is_set = sides.ours.is_some();
        let merged = sides.each(|side| side).settle(T::merge);
        (is_set || merged.is_some()).then_some(merged)
    }
}

impl<T: PartialEq> Merge for Vec<T> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        later(sides)
    }
}

impl<T: Ord> Merge for BTreeSet<T> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        union(sides)
    }
}

impl<T: Eq + Hash, S: BuildHasher + Default> Merge for HashSet<T, S> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        union(sides)
    }
}

impl Merge for serde_json::Value {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        use serde_json::Value::Object;

        match (&sides.ours, &sides.theirs) {
            (Some(Object(_)), Some(Object(_))) => {
                let objects = sides.each(|side| match side {
                    Object(object) => Some(object),
                    _ => None,
                });
                serde_json::Map::merge(objects).map(Object)
            }
            _ => later(sides),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::Range;

    use super::*;

    #[test]
    fn a_deque_merges_as_a_list_does() {
        let deque = |items: [u8; 2]| Some(VecDeque::from(items));
        let [base, ours] = [[1, 2], [2, 3]].map(deque);
        let sides = Sides::new(base.clone(), ours.clone(), base, Occasion::Conflict);
        assert_eq!(union(sides), ours);
    }

    thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts how often it is compared.
    #[derive(Clone, Debug)]
    struct Counted(u32);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    impl Merge for Counted {
        fn merge(sides: Sides<Self>) -> Option<Self> {
            later(sides)
        }
    }

    type Rule = fn(Sides<Vec<Counted>>) -> Option<Vec<Counted>>;

    /// Two requests have added ten each to a list, and taken ten away from its beginning: no item is compared with all others.
    #[test]
    fn long_lists_merge_in_a_few_passes() {
        const LONG: u32 = 10_000;
        let list = |items: Range<u32>, added: u32| {
            let added = LONG + added..LONG + added + 10;
            Some(items.chain(added).map(Counted).collect::<Vec<_>>())
        };
        let sides = Sides {
            base: Some((0..LONG).map(Counted).collect::<Vec<_>>()),
            ours: list(10..LONG, 0),
            theirs: list(10..LONG, 100),
            occasion: Occasion::Conflict,
        };
        let rules: [Rule; 3] = [append, union, |sides| Vec::by_key(sides, |item| item)];
        for (rule, kept) in rules.into_iter().zip([0..LONG, 10..LONG, 10..LONG]) {
            COMPARED.set(0);
            let merged = rule(sides.clone()).expect("a list");
            let compared = COMPARED.get();
            assert!(compared < 100 * LONG as usize, "{compared}");
            let merged: Vec<_> = merged.into_iter().map(|item| item.0).collect();
            let (theirs, ours) = (LONG + 100..LONG + 110, LONG..LONG + 10);
            assert!(merged.into_iter().eq(kept.chain(theirs).chain(ours)));
        }
    }
}
