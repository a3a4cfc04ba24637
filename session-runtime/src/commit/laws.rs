//! The laws of merging, by property, for every rule: as the commit applies it, not the bare function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Timestamp, settle as settle_on};
use crate::error::Error;
use crate::merge::{self, Occasion, Sides};
use crate::record::Slot;
use crate::schema::{AnyRow, Row, facts};

/// Between requests.
fn settle(
    row: &dyn AnyRow,
    base: Option<&Arc<Slot>>,
    ours: Option<&Arc<Slot>>,
    theirs: Option<&Arc<Slot>>,
) -> Result<Option<Arc<Slot>>, Error> {
    settle_on(row, base, ours, theirs, Occasion::Conflict)
}

/// One rule, on values.
struct Merging<T: 'static>(Row<T>);

impl<T> Merging<T>
where
    T: Serialize + DeserializeOwned + Default + Send + Sync + PartialEq + Debug + 'static,
{
    fn by(rule: fn(Sides<T>) -> Option<T>) -> Self {
        Self(Row::new("field", T::default).merge(rule))
    }

    fn slot(&self, value: Option<&T>) -> Option<Arc<Slot>> {
        value.map(|value| self.0.slot(self.0.encode_value(value).unwrap(), None))
    }

    fn settle(&self, base: Option<&T>, ours: Option<&T>, theirs: Option<&T>) -> Option<T> {
        let (base, ours, theirs) = (self.slot(base), self.slot(ours), self.slot(theirs));
        let row: &dyn AnyRow = &self.0;
        let settled = settle(row, base.as_ref(), ours.as_ref(), theirs.as_ref()).unwrap();
        settled.map(|slot| self.0.decode_payload(slot.payload()).unwrap())
    }

    /// `merge(b, b, t) = t` and `merge(b, o, b) = o`, absent values included.
    fn leaves_alone_what_one_side_left_alone(&self, base: Option<&T>, other: Option<&T>) {
        assert_eq!(self.settle(base, base, other).as_ref(), other);
        assert_eq!(self.settle(base, other, base).as_ref(), other);
    }

    /// What is stored after writers that all loaded `base` have committed, in this order.
    fn after(&self, base: &T, writers: &[T]) -> Option<T> {
        let mut stored = self.slot(Some(base));
        for ours in writers {
            let base = self.slot(Some(base));
            let ours = self.slot(Some(ours));
            stored = settle(&self.0, base.as_ref(), ours.as_ref(), stored.as_ref()).unwrap();
        }
        stored.map(|slot| self.0.decode_payload(slot.payload()).unwrap())
    }

    fn is_the_same_in_any_order(&self, base: &T, writers: &[T], shuffled: &[T]) {
        assert_eq!(self.after(base, writers), self.after(base, shuffled));
    }
}

type Map = BTreeMap<u8, i64>;
type Set = BTreeSet<u8>;

fn maps() -> impl Strategy<Value = Map> {
    prop::collection::btree_map(0..5_u8, -3..4_i64, 0..5)
}

/// A number, or none.
fn number() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(-3..4_i64)
}

/// What is there under each key, with `more` on top.
fn added(mut sum: Map, more: &Map) -> Map {
    for (key, more) in more {
        *sum.entry(*key).or_default() += more;
    }
    sum
}

fn sets() -> impl Strategy<Value = Set> {
    prop::collection::btree_set(0..10_u8, 0..8)
}

fn lists() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..10_u8, 0..8)
}

const PRECEDENTS: [fn(Sides<Value>) -> Option<Value>; 4] = [
    merge::left_precedent,
    merge::right_precedent,
    merge::storage_precedent,
    merge::retainment_precedent,
];

fn at_login<T>(rule: fn(Sides<T>) -> Option<T>, guest: Option<T>, user: Option<T>) -> Option<T> {
    rule(Sides {
        base: None,
        ours: guest,
        theirs: user,
        occasion: Occasion::Login,
    })
}

fn json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        "[a-c]".prop_map(Value::from)
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-c]", inner, 0..3)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// Values, and the same values in another order.
fn shuffled<T: Clone + Debug>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    let writers = prop::collection::vec(one, 1..5);
    writers.prop_flat_map(|writers| (Just(writers.clone()), Just(writers).prop_shuffle()))
}

proptest! {
    #[test]
    fn a_side_that_left_the_field_alone_never_counts(
        (a, b) in (prop::option::of(any::<i64>()), prop::option::of(any::<i64>())),
        (c, d) in (prop::option::of(maps()), prop::option::of(maps())),
        (e, f) in (prop::option::of(sets()), prop::option::of(sets())),
        (g, h) in (prop::option::of(lists()), prop::option::of(lists())),
        (i, j) in (prop::option::of(json()), prop::option::of(json())),
    ) {
        for rule in [merge::later, merge::user, merge::guest, merge::sum, merge::max, merge::min, merge::deep] {
            Merging::by(rule).leaves_alone_what_one_side_left_alone(a.as_ref(), b.as_ref());
        }
        for rule in [merge::sum, merge::deep] {
            Merging::by(rule).leaves_alone_what_one_side_left_alone(c.as_ref(), d.as_ref());
        }
        for rule in [merge::union, merge::deep] {
            Merging::by(rule).leaves_alone_what_one_side_left_alone(e.as_ref(), f.as_ref());
        }
        for rule in [merge::append, merge::union, merge::deep] {
            Merging::by(rule).leaves_alone_what_one_side_left_alone(g.as_ref(), h.as_ref());
        }
        for rule in PRECEDENTS {
            Merging::by(rule).leaves_alone_what_one_side_left_alone(i.as_ref(), j.as_ref());
            prop_assert_eq!(at_login(rule, i.clone(), None), i.clone());
            prop_assert_eq!(at_login(rule, None, i.clone()), i.clone());
        }
        let refuses = Merging(Row::<i64>::new("field", i64::default).reject());
        refuses.leaves_alone_what_one_side_left_alone(a.as_ref(), b.as_ref());
    }

    #[test]
    fn between_requests_a_rule_of_precedence_is_deep(
        base in json(), ours in json(), theirs in json()
    ) {
        let settled = |rule| Merging::by(rule).settle(Some(&base), Some(&ours), Some(&theirs));
        for rule in PRECEDENTS {
            prop_assert_eq!(settled(rule), settled(merge::deep));
        }
    }

    #[test]
    fn sums_of_numbers_come_out_the_same_in_any_order(
        base in -1000..1000_i64, (writers, others) in shuffled(-1000..1000_i64)
    ) {
        let differences: i64 = writers.iter().map(|ours| ours - base).sum();
        prop_assert_eq!(Merging::by(merge::sum).after(&base, &writers), Some(base + differences));
        Merging::by(merge::sum).is_the_same_in_any_order(&base, &writers, &others);
    }

    #[test]
    fn sums_of_maps_come_out_the_same_in_any_order_while_nothing_is_removed(
        base in maps(), additions in prop::collection::vec(maps(), 1..5)
    ) {
        let writers: Vec<Map> = additions.iter().map(|more| added(base.clone(), more)).collect();
        let backwards: Vec<Map> = writers.iter().rev().cloned().collect();
        let all = additions.iter().fold(base.clone(), added);
        prop_assert_eq!(Merging::by(merge::sum).after(&base, &writers), Some(all));
        Merging::by(merge::sum).is_the_same_in_any_order(&base, &writers, &backwards);
    }

    #[test]
    fn at_login_sums_of_maps_are_of_all_that_is_there(guest in maps(), user in maps()) {
        let all = added(guest.clone(), &user);
        prop_assert_eq!(at_login(merge::sum, Some(guest), Some(user)), Some(all));
    }

    #[test]
    fn sums_treat_numbers_below_zero_as_those_above(
        base in number(), ours in number(), theirs in number()
    ) {
        let settled = |side: fn(i64) -> i64| {
            let [base, ours, theirs] = [base, ours, theirs].map(|number| number.map(side));
            Merging::by(merge::sum).settle(base.as_ref(), ours.as_ref(), theirs.as_ref())
        };
        prop_assert_eq!(settled(|number| -number), settled(|number| number).map(|number| -number));
    }

    #[test]
    fn unions_of_sets_come_out_the_same_in_any_order(
        base in sets(), (writers, others) in shuffled(sets())
    ) {
        Merging::by(merge::union).is_the_same_in_any_order(&base, &writers, &others);
    }

    #[test]
    fn the_greatest_and_the_least_come_out_the_same_in_any_order(
        base in any::<u16>(), rise in prop::collection::vec(any::<u16>(), 1..5)
    ) {
        let up: Vec<u16> = rise.iter().map(|more| base.saturating_add(*more)).collect();
        let down: Vec<u16> = rise.iter().map(|less| base.saturating_sub(*less)).collect();
        let backwards = |values: &[u16]| values.iter().rev().copied().collect::<Vec<_>>();
        prop_assert_eq!(Merging::by(merge::max).after(&base, &up), up.iter().max().copied());
        prop_assert_eq!(Merging::by(merge::min).after(&base, &down), down.iter().min().copied());
        Merging::by(merge::max).is_the_same_in_any_order(&base, &up, &backwards(&up));
        Merging::by(merge::min).is_the_same_in_any_order(&base, &down, &backwards(&down));
    }

    #[test]
    fn an_append_loses_no_addition(base in lists(), ours in lists(), theirs in lists()) {
        let with = |more: &[u8]| [base.as_slice(), more].concat();
        let merged = Merging::by(merge::append)
            .settle(Some(&base), Some(&with(&ours)), Some(&with(&theirs)))
            .unwrap();
        prop_assert_eq!(merged.len(), base.len() + ours.len() + theirs.len());
        prop_assert!(merged.starts_with(&base));
    }
}

#[test]
fn writing_the_same_value_twice_adds_up() {
    let sum = Merging::by(merge::sum);
    assert_eq!(sum.settle(Some(&3), Some(&5), Some(&5)), Some(7));
}

#[test]
fn sums_are_clamped_and_removals_stick() {
    assert_eq!(
        Merging::by(merge::sum).settle(Some(&0), Some(&200_u8), Some(&100)),
        Some(255)
    );
    assert_eq!(
        Merging::by(merge::sum).settle(Some(&9), Some(&1_u8), Some(&2)),
        Some(0)
    );
    let cart = |lines: &[(&str, u32)]| -> HashMap<String, u32> {
        lines
            .iter()
            .map(|(sku, quantity)| ((*sku).to_owned(), *quantity))
            .collect()
    };
    let merged = Merging::by(merge::sum).settle(
        Some(&cart(&[("apple", 2), ("pear", 2), ("plum", 1)])),
        Some(&cart(&[("pear", 2), ("plum", 3)])), // apples removed, plums added
        Some(&cart(&[("apple", 2), ("pear", 5)])), // pears added, plums removed
    );
    assert_eq!(merged, Some(cart(&[("pear", 5), ("plum", 2)])));
    let count = Merging::by(merge::sum);
    assert_eq!(count.settle(Some(&5_u32), None, Some(&8)), Some(3));
    assert_eq!(count.settle(Some(&5), None, None), None);
    let votes = Merging::by(merge::sum);
    assert_eq!(votes.settle(Some(&-5_i8), None, Some(&-8)), Some(-3));
    assert_eq!(votes.settle(Some(&-5), None, Some(&-3)), None);
    assert_eq!(votes.settle(Some(&-5), None, None), None);
    assert_eq!(votes.settle(Some(&0), None, Some(&-3)), Some(-3));
}

#[test]
fn deep_settles_json_leaf_by_leaf() {
    use serde_json::json;

    let merged = Merging::by(merge::deep).settle(
        Some(&json!({"a": {"x": 1, "y": 1}, "b": 1, "gone": 1})),
        Some(&json!({"a": {"x": 2, "y": 1}, "b": 2})),
        Some(&json!({"a": {"x": 1, "y": 3, "z": 4}, "b": 3, "gone": 1})),
    );
    assert_eq!(merged, Some(json!({"a": {"x": 2, "y": 3, "z": 4}, "b": 2})));
}

#[test]
fn a_flash_that_is_used_up_spares_a_newer_one() {
    let flash = Merging(Row::<String>::new("field", String::new).flash());
    let (old, new) = ("old".to_owned(), "new".to_owned());
    assert_eq!(flash.settle(Some(&old), None, Some(&new)), Some(new));
}

#[test]
fn a_merge_never_overwrites_what_it_cannot_decode() {
    let row: &dyn AnyRow = &Row::<u32>::new("field", u32::default).merge(merge::sum);
    let slot = |payload: &'static str| Arc::new(Slot::new("field", payload, None));
    let (ours, theirs) = (slot("1"), slot("\"one\""));
    let settled = settle(row, None, Some(&ours), Some(&theirs)).unwrap();
    assert_eq!(settled, Some(theirs));
}

#[test]
fn a_slot_that_no_field_is_known_of_stays_as_it_is_stored() {
    let slot = |payload: &'static str| Arc::new(Slot::new("@some/slot", payload, None));
    let theirs = Some(slot("2"));
    for ours in [None, Some(slot("3"))] {
        let (base, ours) = (Some(slot("1")), ours.as_ref());
        let settled = settle(&facts::Raw, base.as_ref(), ours, theirs.as_ref());
        assert_eq!(settled.unwrap(), theirs);
    }
}

#[test]
fn of_two_expiries_the_changed_one_stands_and_of_two_changed_ones_the_later() {
    let row: &dyn AnyRow = &Row::<u32>::new("field", u32::default);
    let slot = |payload: &'static str, expires: Option<i64>| {
        Arc::new(Slot::new(
            "field",
            payload,
            expires.map(Timestamp::from_millis),
        ))
    };
    let settled = |base, ours, theirs| {
        let settled = settle(row, Some(&base), Some(&ours), Some(&theirs))
            .unwrap()
            .unwrap();
        (
            settled.payload().to_vec(),
            settled.expires().map(Timestamp::as_millis),
        )
    };
    let base = || slot("1", Some(10));
    assert_eq!(
        settled(base(), slot("1", Some(5)), base()),
        (b"1".to_vec(), Some(5))
    );
    assert_eq!(
        settled(base(), slot("1", Some(20)), slot("2", Some(10))),
        (b"2".to_vec(), Some(20))
    );
    assert_eq!(
        settled(base(), slot("3", Some(20)), slot("2", Some(30))),
        (b"3".to_vec(), Some(30))
    );
    assert_eq!(
        settled(base(), slot("3", None), slot("2", Some(30))),
        (b"3".to_vec(), None)
    );
}
