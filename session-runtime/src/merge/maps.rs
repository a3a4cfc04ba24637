//! Maps: they merge key by key.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

use super::{Merge, Sides, Sum};

/// The calls of all map types that merging needs.
trait Map:
    Default + IntoIterator<Item = (Self::Key, Self::Value)> + Extend<(Self::Key, Self::Value)>
{
    type Key;
    type Value;

    fn is_empty(&self) -> bool;

    fn has(&self, key: &Self::Key) -> bool;

    fn take(&mut self, key: &Self::Key) -> Option<Self::Value>;
}

macro_rules! maps {
    ($($map:ty, [$($generics:tt)*], $key:ty, $value:ty;)*) => {
        $(impl<$($generics)*> Map for $map {
            type Key = $key;
            type Value = $value;

            fn is_empty(&self) -> bool {
                self.len() == 0
            }

            fn has(&self, key: &$key) -> bool {
                self.contains_key(key)
            }

            fn take(&mut self, key: &$key) -> Option<$value> {
                self.remove(key)
            }
        })*
    };
}

maps! {
    BTreeMap<K, V>, [K: Ord, V], K, V;
    HashMap<K, V, S>, [K: Eq + Hash, V, S: BuildHasher + Default], K, V;
    serde_json::Map<String, serde_json::Value>, [], String, serde_json::Value;
}

/// Merges maps key by key. What comes out empty, and was removed by one side, stays so.
fn per_key<M: Map>(
    sides: Sides<M>,
    rule: impl Fn(Sides<M::Value>) -> Option<M::Value>,
) -> Option<M> {
    let (removed, occasion) = (sides.has_removal(), sides.occasion);
    let mut base = sides.base.unwrap_or_default();
    let theirs = sides.theirs.unwrap_or_default();
    // Apart from what is taken out below, by which a map may lose its order.
    let ours = sides.ours.unwrap_or_default().into_iter();
    let (mut ours, added): (M, M) = ours.partition(|(key, _)| theirs.has(key));
    let mut merged = M::default();
    for (key, theirs) in theirs {
        let sides = Sides {
            base: base.take(&key),
            ours: ours.take(&key),
            theirs: Some(theirs),
            occasion,
        };
        merged.extend(rule(sides).map(|value| (key, value)));
    }
    for (key, ours) in added {
        let sides = Sides {
            base: base.take(&key),
            ours: Some(ours),
            theirs: None,
            occasion,
        };
        merged.extend(rule(sides).map(|value| (key, value)));
    }
    (!removed || !merged.is_empty()).then_some(merged)
}

impl<K: Ord, V: Merge> Merge for BTreeMap<K, V> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        per_key(sides, |sides| sides.settle(V::merge))
    }
}

impl<K: Eq + Hash, V: Merge, S: BuildHasher + Default> Merge for HashMap<K, V, S> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        // Two maps of one content are equal whatever their hashers.
        per_key(sides, |sides| sides.settle(V::merge))
    }
}

impl Merge for serde_json::Map<String, serde_json::Value> {
    fn merge(sides: Sides<Self>) -> Option<Self> {
        per_key(sides, |sides| sides.settle(serde_json::Value::merge))
    }
}

impl<K: Ord, V: Sum> Sum for BTreeMap<K, V> {
    fn sum(sides: Sides<Self>) -> Option<Self> {
        per_key(sides, V::sum)
    }
}

impl<K: Eq + Hash, V: Sum, S: BuildHasher + Default> Sum for HashMap<K, V, S> {
    fn sum(sides: Sides<Self>) -> Option<Self> {
        per_key(sides, V::sum)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::merge::{Occasion, deep, later};

    /// Keeps its order as `serde_json`'s maps do with `preserve_order`: what is taken out has the last in its place.
    #[derive(Default)]
    struct Kept(Vec<(u8, u8)>);

    impl Extend<(u8, u8)> for Kept {
        fn extend<I: IntoIterator<Item = (u8, u8)>>(&mut self, entries: I) {
            self.0.extend(entries);
        }
    }

    impl IntoIterator for Kept {
        type Item = (u8, u8);
        type IntoIter = std::vec::IntoIter<(u8, u8)>;

        fn into_iter(self) -> Self::IntoIter {
            self.0.into_iter()
        }
    }

    impl Map for Kept {
        type Key = u8;
        type Value = u8;

        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        fn has(&self, key: &u8) -> bool {
            self.0.iter().any(|(other, _)| other == key)
        }

        fn take(&mut self, key: &u8) -> Option<u8> {
            let at = self.0.iter().position(|(other, _)| other == key)?;
            Some(self.0.swap_remove(at).1)
        }
    }

    #[test]
    fn an_object_merges_as_a_map_does() {
        let [base, ours, theirs, merged] = [
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
            json!({"a": 3}),
            json!({"a": 3, "b": 2}),
        ]
        .map(|value| value.as_object().cloned());
        let sides = Sides::new(base, ours, theirs, Occasion::Conflict);
        assert_eq!(deep(sides), merged);
    }

    #[test]
    fn a_map_that_one_side_has_removed_does_not_come_back_empty() {
        let map = |n: u8| Some(BTreeMap::from([("a", n)]));
        let sides = Sides::new(map(1), None, map(2), Occasion::Conflict);
        assert_eq!(deep(sides), None);
    }

    #[test]
    fn what_one_side_has_removed_of_sums_within_sums_stays_removed() {
        type Carts = BTreeMap<u8, HashMap<u8, u32>>;
        let carts = |of: &[(u8, &[(u8, u32)])]| -> Option<Carts> {
            let cart = |(shop, cart): &(u8, &[(u8, u32)])| (*shop, cart.iter().copied().collect());
            Some(of.iter().map(cart).collect())
        };
        let merged = |ours, theirs| {
            let base = carts(&[(1, &[(7, 1)]), (2, &[(7, 1)])]);
            let occasion = Occasion::Conflict;
            Sum::sum(Sides {
                base,
                ours,
                theirs,
                occasion,
            })
        };
        let (removed, raised) = (
            carts(&[(2, &[(7, 1)])]),
            carts(&[(1, &[(7, 1)]), (2, &[(7, 2)])]),
        );
        let expected = carts(&[(2, &[(7, 2)])]);
        assert_eq!(merged(removed.clone(), raised.clone()), expected);
        assert_eq!(merged(raised, removed.clone()), expected);
        // But what the other side has added to it at that moment is there.
        let added = carts(&[(1, &[(7, 1), (8, 3)]), (2, &[(7, 1)])]);
        let expected = carts(&[(1, &[(8, 3)]), (2, &[(7, 1)])]);
        assert_eq!(merged(removed.clone(), added.clone()), expected);
        assert_eq!(merged(added, removed), expected);
    }

    #[test]
    fn what_one_side_has_added_to_a_map_stays_in_its_order() {
        let map = |keys: &[u8]| Some(Kept(keys.iter().map(|key| (*key, 0)).collect()));
        let sides = Sides {
            base: map(&[1, 2]),
            ours: map(&[1, 2, 9, 3, 7]),
            theirs: map(&[1, 2, 8]),
            occasion: Occasion::Conflict,
        };
        let merged = per_key(sides, |sides| sides.settle(later)).expect("a map");
        let keys: Vec<_> = merged.0.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [1, 2, 8, 9, 3, 7]);
    }
}
