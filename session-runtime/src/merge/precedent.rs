//! The four rules for JSON that say which of two values takes precedence when a guest logs in.
//!
//! Left is the user's value, right the guest's. Values are scalars, arrays or objects; two objects merge key by
//! key, and two arrays are joined, whichever the rule.

use std::collections::HashMap;

use serde_json::Value::{self, Array, Object};

use super::{Merge, Occasion, Sides, additions};

type Map = serde_json::Map<String, Value>;

/// Types that the rules of precedence are for: [`serde_json::Value`].
#[diagnostic::on_unimplemented(
    message = "the rules of precedence do not fit the type `{Self}`",
    label = "not a `serde_json::Value`",
    note = "`left_precedent` and its like are for `serde_json::Value`; `user` and `guest` are for any type, `deep` for maps and structs"
)]
pub trait Json: Merge + From<Value> + Into<Value> {}

impl Json for Value {}

/// `left_precedent`: the user's value.
pub fn left_precedent<T: Json>(sides: Sides<T>) -> Option<T> {
    at_login(sides, left)
}

/// `right_precedent`: the guest's value.
pub fn right_precedent<T: Json>(sides: Sides<T>) -> Option<T> {
    at_login(sides, right)
}

/// `storage_precedent`: the value that can hold more; the user's, of two that hold as much.
pub fn storage_precedent<T: Json>(sides: Sides<T>) -> Option<T> {
    at_login(sides, storage)
}

/// `retainment_precedent`: both values, in what can hold them.
pub fn retainment_precedent<T: Json>(sides: Sides<T>) -> Option<T> {
    at_login(sides, retainment)
}

/// At login what `mix` makes of the user's value and the guest's; between requests the same as `deep`.
fn at_login<T: Json>(sides: Sides<T>, mix: fn(Value, Value) -> Value) -> Option<T> {
    if sides.occasion == Occasion::Conflict {
        return T::merge(sides);
    }
    match (sides.theirs, sides.ours) {
        (Some(theirs), Some(ours)) => {
            let (base, theirs, ours) = (sides.base.map(Into::into), theirs.into(), ours.into());
            let added = match base {
                Some(base) => added(&base, ours),
                None => Some(ours),
            };
            let merged = match added {
                Some(added) => mix(theirs, added),
                None => theirs,
            };
            Some(merged.into())
        }
        (theirs, ours) => theirs.or(ours),
    }
}

/// Returns what a guest has added to `base`, if anything: a request that was under way at the login began with that, and the
/// user has been credited with it.
fn added(base: &Value, ours: Value) -> Option<Value> {
    match (base, ours) {
        (base, ours) if *base == ours => None,
        (Array(base), Array(ours)) => Some(Array(additions(ours, base))),
        (Object(base), Object(ours)) => {
            let entries = ours.into_iter().filter_map(|(key, ours)| {
                let added = match base.get(&key) {
                    Some(base) => added(base, ours)?,
                    None => ours,
                };
                Some((key, added))
            });
            Some(Object(entries.collect()))
        }
        (_, ours) => Some(ours),
    }
}

fn left(left: Value, right: Value) -> Value {
    match (left, right) {
        (Object(left), Object(right)) => per_key(left, right, self::left),
        (Array(left), right) => joined(left, items(right)),
        (left, _) => left,
    }
}

fn right(left: Value, right: Value) -> Value {
    match (left, right) {
        (Object(left), Object(right)) => per_key(left, right, self::right),
        (left, Array(right)) => joined(items(left), right),
        (_, right) => right,
    }
}

fn storage(left: Value, right: Value) -> Value {
    match (left, right) {
        (Object(left), Object(right)) => per_key(left, right, storage),
        (Object(object), _) | (_, Object(object)) => Object(object),
        (Array(left), right) => joined(left, items(right)),
        (left, Array(right)) => joined(items(left), right),
        (left, _) => left,
    }
}

fn retainment(left: Value, right: Value) -> Value {
    match (left, right) {
        (Object(left), right) => per_key(left, keyed(right), retainment),
        (left, Object(right)) => per_key(keyed(left), right, retainment),
        (left, right) => joined(items(left), items(right)),
    }
}

/// Both sides' keys, and for those that both have what `mix` makes of their values.
fn per_key(mut left: Map, right: Map, mix: fn(Value, Value) -> Value) -> Value {
    for (key, right) in right {
        if let Some(value) = left.get_mut(&key) {
            *value = mix(value.take(), right);
        } else {
            left.insert(key, right);
        }
    }
    Object(left)
}

fn joined(mut left: Vec<Value>, right: Vec<Value>) -> Value {
    left.extend(right);
    Array(left)
}

/// A value as a list: an object's values, a scalar as the only item.
fn items(value: Value) -> Vec<Value> {
    match value {
        Array(items) => items,
        Object(object) => object.into_iter().map(|(_, value)| value).collect(),
        scalar => vec![scalar],
    }
}

/// A value as an object: each item under itself, which is its JSON text if it is no text. Further items of the same
/// text are kept apart by a number, from 2 on, as `Hash::Merge` does: `a`, `a2`, `a3`.
fn keyed(value: Value) -> Map {
    let list = match value {
        Object(object) => return object,
        value => items(value),
    };
    let mut keyed = Map::new();
    // Up to which number each text was tried: else a long list of one text takes its square.
    let mut tried = HashMap::new();
    for item in list {
        let text = match &item {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut key = text.clone();
        if keyed.contains_key(&key) {
            let number = tried.entry(text.clone()).or_insert(1_u32);
            while keyed.contains_key(&key) {
                *number += 1;
                key = format!("{text}{number}");
            }
        }
        keyed.insert(key, item);
    }
    keyed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Rule = fn(Sides<Value>) -> Option<Value>;

    fn at_login(rule: Rule, user: &Value, guest: &Value) -> Value {
        let sides = Sides {
            base: None,
            ours: Some(guest.clone()),
            theirs: Some(user.clone()),
            occasion: Occasion::Login,
        };
        rule(sides).unwrap()
    }

    /// A row of the table: what the user has, what the guest has, and what the four rules make of them.
    fn row(user: &Value, guest: &Value, [left, right, storage, retainment]: [Value; 4]) {
        let expected = [
            (left_precedent as Rule, left),
            (right_precedent, right),
            (storage_precedent, storage),
            (retainment_precedent, retainment),
        ];
        for (column, (rule, expected)) in expected.into_iter().enumerate() {
            let merged = at_login(rule, user, guest);
            assert_eq!(merged, expected, "column {column} of {user} × {guest}");
        }
    }

    #[test]
    fn scalars_meet() {
        row(
            &json!("l"),
            &json!("r"),
            [json!("l"), json!("r"), json!("l"), json!(["l", "r"])],
        );
        row(
            &json!("l"),
            &json!(["r", 2]),
            [
                json!("l"),
                json!(["l", "r", 2]),
                json!(["l", "r", 2]),
                json!(["l", "r", 2]),
            ],
        );
        row(
            &json!("l"),
            &json!({"r": 2}),
            [
                json!("l"),
                json!({"r": 2}),
                json!({"r": 2}),
                json!({"l": "l", "r": 2}),
            ],
        );
    }

    #[test]
    fn arrays_meet() {
        row(
            &json!(["l", 1]),
            &json!("r"),
            [
                json!(["l", 1, "r"]),
                json!("r"),
                json!(["l", 1, "r"]),
                json!(["l", 1, "r"]),
            ],
        );
        row(
            &json!(["l", 1]),
            &json!(["r", 1]),
            [
                json!(["l", 1, "r", 1]),
                json!(["l", 1, "r", 1]),
                json!(["l", 1, "r", 1]),
                json!(["l", 1, "r", 1]),
            ],
        );
        row(
            &json!(["l", 1]),
            &json!({"a": "r", "b": 2}),
            [
                json!(["l", 1, "r", 2]),
                json!({"a": "r", "b": 2}),
                json!({"a": "r", "b": 2}),
                json!({"l": "l", "1": 1, "a": "r", "b": 2}),
            ],
        );
    }

    #[test]
    fn objects_meet() {
        row(
            &json!({"a": "l", "b": 1}),
            &json!("r"),
            [
                json!({"a": "l", "b": 1}),
                json!("r"),
                json!({"a": "l", "b": 1}),
                json!({"a": "l", "b": 1, "r": "r"}),
            ],
        );
        row(
            &json!({"a": "l", "b": 1}),
            &json!(["r", 2]),
            [
                json!({"a": "l", "b": 1}),
                json!(["l", 1, "r", 2]),
                json!({"a": "l", "b": 1}),
                json!({"a": "l", "b": 1, "r": "r", "2": 2}),
            ],
        );
        row(
            &json!({"a": "l", "b": 1}),
            &json!({"a": "r", "c": 2}),
            [
                json!({"a": "l", "b": 1, "c": 2}),
                json!({"a": "r", "b": 1, "c": 2}),
                json!({"a": "l", "b": 1, "c": 2}),
                json!({"a": ["l", "r"], "b": 1, "c": 2}),
            ],
        );
    }

    #[test]
    fn objects_merge_to_any_depth() {
        row(
            &json!({"x": {"s": 1, "a": [1], "h": {"y": 1}}, "l": 1}),
            &json!({"x": {"s": [2], "a": 2, "h": {"y": {"z": 2}}}, "r": 2}),
            [
                json!({"x": {"s": 1, "a": [1, 2], "h": {"y": 1}}, "l": 1, "r": 2}),
                json!({"x": {"s": [1, 2], "a": 2, "h": {"y": {"z": 2}}}, "l": 1, "r": 2}),
                json!({"x": {"s": [1, 2], "a": [1, 2], "h": {"y": {"z": 2}}}, "l": 1, "r": 2}),
                json!({"x": {"s": [1, 2], "a": [1, 2], "h": {"y": {"1": 1, "z": 2}}}, "l": 1, "r": 2}),
            ],
        );
    }

    #[test]
    fn what_is_under_itself_merges_with_what_is_there() {
        let merged = |user, guest| at_login(retainment_precedent, &user, &guest);
        assert_eq!(merged(json!("a"), json!({"a": 1})), json!({"a": ["a", 1]}));
        assert_eq!(
            merged(json!({"a": {"b": 1}}), json!("a")),
            json!({"a": {"b": 1, "a": "a"}})
        );
        assert_eq!(
            merged(json!([null, true, [1, "x"], "null"]), json!({})),
            json!({"null": null, "true": true, "[1,\"x\"]": [1, "x"], "null2": "null"})
        );
    }

    #[test]
    fn equal_items_of_a_list_are_kept_apart() {
        let merged = |user| at_login(retainment_precedent, &user, &json!({"g": 0}));
        assert_eq!(
            merged(json!(["a", "a", "a"])),
            json!({"a": "a", "a2": "a", "a3": "a", "g": 0})
        );
        // A name that is taken by another item is passed over, whichever came first.
        assert_eq!(
            merged(json!(["a2", "a", "a"])),
            json!({"a2": "a2", "a": "a", "a3": "a", "g": 0})
        );
        assert_eq!(
            merged(json!(["a", "a", "a2"])),
            json!({"a": "a", "a2": "a", "a22": "a2", "g": 0})
        );
        assert_eq!(
            merged(json!([1, "1", 1, null, null])),
            json!({"1": 1, "12": "1", "13": 1, "null": null, "null2": null, "g": 0})
        );
        let many = merged(json!(vec!["a"; 50_000]));
        assert_eq!(many.as_object().map(Map::len), Some(50_001));
        assert_eq!(many["a50000"], "a");
        // What the other side has under that name meets it.
        let met = at_login(retainment_precedent, &json!({"a2": 1}), &json!(["a", "a"]));
        assert_eq!(met, json!({"a": "a", "a2": [1, "a"]}));
    }

    #[test]
    fn null_is_a_scalar() {
        row(
            &json!(null),
            &json!(1),
            [json!(null), json!(1), json!(null), json!([null, 1])],
        );
        row(
            &json!([]),
            &json!(null),
            [json!([null]), json!(null), json!([null]), json!([null])],
        );
    }

    #[test]
    fn of_a_guest_who_has_been_credited_only_what_came_after_is_merged() {
        for rule in [
            left_precedent,
            right_precedent,
            storage_precedent,
            retainment_precedent,
        ] {
            let sides = |base, ours, theirs| Sides {
                base: Some(base),
                ours: Some(ours),
                theirs: Some(theirs),
                occasion: Occasion::Login,
            };
            let list = sides(json!([1]), json!([1, 2]), json!([0, 1]));
            assert_eq!(rule(list), Some(json!([0, 1, 2])));
            let object = sides(
                json!({"a": [1], "b": 1}),
                json!({"a": [1, 2], "b": 1, "c": 2}),
                json!({"a": [0, 1], "b": [0, 1]}),
            );
            let merged = json!({"a": [0, 1, 2], "b": [0, 1], "c": 2});
            assert_eq!(rule(object), Some(merged));
        }
    }

    #[test]
    fn between_requests_a_leaf_is_the_later_writers() {
        for rule in [
            left_precedent,
            right_precedent,
            storage_precedent,
            retainment_precedent,
        ] {
            let sides = Sides {
                base: Some(json!({"a": 1, "b": 1, "c": 1})),
                ours: Some(json!({"a": 2, "b": 1, "c": [2]})),
                theirs: Some(json!({"a": 3, "b": 3, "c": {"x": 3}})),
                occasion: Occasion::Conflict,
            };
            assert_eq!(rule(sides), Some(json!({"a": 2, "b": 3, "c": [2]})));
        }
    }
}
