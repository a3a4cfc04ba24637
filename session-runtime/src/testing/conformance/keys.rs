//! Keys: each names one record, whatever it looks like.

use super::trial::{Trial, next_with, noise, slot};
use crate::key::{Key, LONGEST_NAME, Selector, UserId};
use crate::record::Ended;
use crate::store::Store;

/// Puts a record under each key, another one over it, and looks whether each is still its own.
async fn stay_apart<S: Store>(trial: &Trial<S>, keys: &[Key]) {
    let mut records = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let slots = [slot("n", n.to_string()), slot("large", noise(n, 3_000))];
        records.push(trial.put(key, None, trial.record(slots)).await);
    }
    for (n, (key, there)) in keys.iter().zip(&mut records).enumerate() {
        let slots = [slot("n", n.to_string()), slot("other", noise(n, 2_000))];
        *there = trial.put(key, Some(there), next_with(there, slots)).await;
    }
    for (key, there) in keys.iter().zip(&records) {
        trial.holds(key, there).await;
    }
}

fn sessions(numbers: impl IntoIterator<Item = u64>) -> Vec<Key> {
    let selectors = numbers.into_iter().map(u64::to_be_bytes);
    selectors
        .map(|bytes| Key::Session(Selector::from_bytes(bytes)))
        .collect()
}

fn users<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Key> {
    names
        .into_iter()
        .map(|name| Key::User(UserId::new(name)))
        .collect()
}

pub(super) async fn selectors_stay_apart<S: Store>(trial: &Trial<S>) {
    let bits = (0..64).map(|bit| 1 << bit);
    let ends = [
        0,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX >> 1,
        0x2020_2020_2020_2020,
    ];
    stay_apart(trial, &sessions(bits.chain(ends))).await;
}

pub(super) async fn users_of_unusual_names_stay_apart<S: Store>(trial: &Trial<S>) {
    let longest = |end: &str| "u".repeat(LONGEST_NAME - end.len()) + end;
    let (long, longer) = ("u".repeat(300), "u".repeat(1_000));
    let (a, b, c) = (longest("a"), longest("b"), longest("ü"));
    let names = [
        "", " ", "  ", "a", "A", "a ", " a", "ä", "a\u{308}", "å", "\u{212b}", "ss", "ß", "i", "I",
        "ı", "İ", "a}", "{a}", "{", "a:b", "a/b", "user:a", "*", "%", "_", "?", "a'b", "a\"b",
        "a\\b", "a\0", "a\0b", "\n", "0", "00", "0.0", "-1", "null", "😀", &long, &longer, &a, &b,
        &c,
    ];
    stay_apart(trial, &users(names)).await;
}

pub(super) async fn users_and_sessions_never_meet<S: Store>(trial: &Trial<S>) {
    let sessions = sessions([0, 0x6162_6364_6566_6768, u64::MAX]);
    let displayed = sessions.iter().map(Key::to_string);
    let digits = displayed.clone().map(|text| text.replace("session:", ""));
    // The bytes of the selectors, too, as far as they are text.
    let bytes = ["\0\0\0\0\0\0\0\0", "abcdefgh", "hgfedcba"].map(str::to_owned);
    let names: Vec<_> = displayed.chain(digits).chain(bytes).collect();
    let users = users(names.iter().map(String::as_str));
    stay_apart(trial, &[sessions, users].concat()).await;
}

pub(super) async fn an_end_under_one_key_is_none_under_another<S: Store>(trial: &Trial<S>) {
    let keys = [sessions([1, 2]), users(["1", "2"])].concat();
    let mut records = Vec::new();
    for key in &keys {
        let slots = [slot("a", "1"), slot("large", noise(0, 3_000))];
        records.push(trial.put(key, None, trial.record(slots)).await);
    }
    for ended in 0..keys.len() {
        let end = records[ended].tombstone(Ended::Revoked, trial.now());
        records[ended] = trial.put(&keys[ended], Some(&records[ended]), end).await;
        for (key, there) in keys.iter().zip(&records) {
            trial.holds(key, there).await;
        }
    }
}
