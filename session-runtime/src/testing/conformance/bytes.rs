//! Bytes: whatever is stored comes back as it was.

use std::time::Duration;

use super::trial::{HOUR, Trial, noise, session_key, slot};
use crate::clock::Timestamp;
use crate::key::{Key, UserId};
use crate::record::{Ended, Head, Record, Slot, Until};
use crate::secret::{Secret, SecretHash, Secrets, Standing};
use crate::signature::Signature;
use crate::store::Store;

const FIRST: Timestamp = Timestamp::from_millis(i64::MIN);
const LAST: Timestamp = Timestamp::from_millis(i64::MAX);

/// Writes the record under a session's key and a user's, once over nothing and once over another.
async fn comes_back<S: Store>(trial: &Trial<S>, record: Record) {
    let key = session_key();
    let there = trial.put(&key, None, record.clone()).await;
    let there = trial.put(&key, Some(&there), trial.record([])).await;
    trial.put(&key, Some(&there), record.next()).await;
    let user = Key::User(UserId::new(format!("of {key}")));
    trial.put(&user, None, record).await;
}

/// A text that is no plain one, of so many bytes and some.
fn odd_text(length: usize) -> String {
    "\0 “why?” \\ ' % \r\n\u{308}ß😀 "
        .chars()
        .cycle()
        .take(length)
        .collect()
}

fn with_head<S: Store>(trial: &Trial<S>, head: Head) -> Record {
    let mut record = trial.record([slot("a", "1")]);
    *record.head_mut() = head;
    record
}

pub(super) async fn payloads_keep_their_exact_bytes<S: Store>(trial: &Trial<S>) {
    let every: Vec<u8> = (0..=255).collect();
    let text = odd_text(100);
    let payloads: [&[u8]; 9] = [
        b"",
        b"\0",
        b"a\0b\0",
        b"\xff\xfe\xfa",
        b"\xc3\x28",
        b"'\"\\\r\n\t;--",
        text.as_bytes(),
        &every,
        &every.repeat(8),
    ];
    let slots = payloads.iter().zip('a'..);
    let slots: Vec<_> = slots
        .map(|(bytes, name)| slot(&name.to_string(), *bytes))
        .collect();
    comes_back(trial, trial.record(slots)).await;
    for payload in payloads {
        comes_back(trial, trial.record([slot("alone", payload)])).await;
    }
}

pub(super) async fn a_large_payload_keeps_its_bytes<S: Store>(trial: &Trial<S>) {
    for length in [127, 128, 16_383, 16_384, 65_535, 65_536, 262_143, 262_144] {
        comes_back(trial, trial.record([slot("large", noise(length, length))])).await;
    }
}

pub(super) async fn a_record_of_a_mebibyte_keeps_its_bytes<S: Store>(trial: &Trial<S>) {
    let quarter = (256 << 10) - 1;
    let slots = ["a", "b", "c", "d"].map(|name| slot(name, noise(quarter, quarter)));
    let record = trial.record(slots);
    trial.equal("it is of a mebibyte", &record.size(), &(1 << 20));
    comes_back(trial, record).await;
}

/// Names of slots that something else might be called, or that something might take for syntax.
const NAMES: [&str; 30] = [
    "",
    " ",
    "  ",
    "@",
    "@sessions",
    "@brought/1/cart",
    "a.b",
    "a:b",
    "a b",
    "a ",
    " a",
    "A",
    "a",
    "{}",
    "{a}",
    "\0",
    "a\0",
    "\n",
    "%s",
    "'",
    "\"",
    "\\",
    "*",
    "ü",
    "u\u{308}",
    "😀",
    "0",
    "h",
    "head",
    "version",
];

pub(super) async fn unusual_names_keep_their_slots_apart<S: Store>(trial: &Trial<S>) {
    // Whatever stands for a long one, they differ at its end alone.
    let mut long = vec![odd_text(1_000)];
    for length in [254, 255, 256, 1_000, 10_000] {
        long.extend(["a", "b"].map(|end| "n".repeat(length) + end));
    }
    let names = || NAMES.into_iter().chain(long.iter().map(String::as_str));
    // Small enough to be packed, too large for it, and some of each.
    for lengths in [[10, 10], [300, 300], [5, 3_000]] {
        let slots = names().enumerate();
        let slots = slots.map(|(n, name)| slot(name, noise(n, lengths[n % 2])));
        comes_back(trial, trial.record(slots)).await;
    }
}

pub(super) async fn two_hundred_slots_stay_apart<S: Store>(trial: &Trial<S>) {
    let slots = (0..200).map(|n| {
        let expires = (n % 3 == 0).then(|| trial.now() + u32::try_from(n).unwrap_or(0) * HOUR);
        Slot::new(format!("slot {n}"), noise(n, n * 7 % 900), expires)
    });
    comes_back(trial, trial.record(slots)).await;
}

pub(super) async fn signatures_are_kept_as_given<S: Store>(trial: &Trial<S>) {
    let signatures = [[0; 16], [0xff; 16], *b"\0\x01\x02\x03\n\r'\"\\\0abcdef"];
    for length in [1, 3_000] {
        let slots = signatures.into_iter().zip('a'..).map(|(bytes, name)| {
            let signature = Signature::from_bytes(bytes);
            Slot::signed(name.to_string(), noise(length, length), None, signature)
        });
        comes_back(trial, trial.record(slots)).await;
    }
}

/// A head that has every member.
fn full_head() -> Head {
    let text = odd_text(300).into_boxed_str();
    Head {
        created: Timestamp::from_millis(1_793_491_200_001),
        ttl: Some(Duration::from_millis(1_234_567)),
        limit: Some(Timestamp::from_millis(1_793_491_200_002)),
        until: Until::of(
            Some(Timestamp::from_millis(1_793_491_200_007)),
            Some(SecretHash::from_bytes(*b"a fingerprint...")),
        ),
        secrets: secrets(Timestamp::from_millis(1_793_491_200_003), 7),
        user: Some(UserId::new(odd_text(200))),
        authenticated: Some(Timestamp::from_millis(1_793_491_200_004)),
        address: Some("2001:db8::1%eth0".into()),
        user_agent: Some(text.clone()),
        unbound: true,
        kept: Some(true),
        label: Some(text),
        brought: 300,
        undo: Some(Box::new(Head {
            created: Timestamp::from_millis(1_793_491_200_005),
            secrets: secrets(Timestamp::from_millis(1_793_491_200_006), 70),
            ..Head::default()
        })),
    }
}

/// Sixteen secrets of each standing.
fn secrets(at: Timestamp, first: u32) -> Secrets {
    let standings = [
        Standing::Current { presented: None },
        Standing::Current {
            presented: Some(at),
        },
        Standing::Retiring {
            by: first,
            until: None,
        },
        Standing::Retiring {
            by: u32::MAX,
            until: Some(at),
        },
        Standing::Superseded {
            by: first,
            at,
            since: None,
        },
        Standing::Superseded {
            by: u32::MAX,
            at,
            since: Some(at),
        },
    ];
    let standings = standings.iter().cycle().zip(first..).take(48);
    let secrets = standings.map(|(standing, number)| Secret {
        hash: SecretHash::of(&number.to_le_bytes()),
        number,
        issued: at,
        standing: *standing,
    });
    Secrets(secrets.collect())
}

pub(super) async fn every_member_of_a_head_comes_back<S: Store>(trial: &Trial<S>) {
    comes_back(trial, with_head(trial, full_head())).await;
    comes_back(trial, with_head(trial, Head::default())).await;
}

pub(super) async fn each_member_of_a_head_comes_back_alone<S: Store>(trial: &Trial<S>) {
    let full = full_head();
    let take: [fn(&mut Head, Head); 13] = [
        |head, full| head.created = full.created,
        |head, full| head.ttl = full.ttl,
        |head, full| head.limit = full.limit,
        |head, full| head.until = Until::of(full.ends(), None),
        |head, full| head.secrets = full.secrets,
        |head, full| head.user = full.user,
        |head, full| head.authenticated = full.authenticated,
        |head, full| head.until = Until::of(None, full.fingerprint()),
        |head, full| head.address = full.address,
        |head, full| head.user_agent = full.user_agent,
        |head, full| head.unbound = full.unbound,
        |head, full| head.label = full.label,
        |head, full| head.brought = full.brought,
    ];
    for take in take {
        let mut head = Head::default();
        take(&mut head, full.clone());
        comes_back(trial, with_head(trial, head)).await;
    }
}

pub(super) async fn empty_texts_are_not_absent_ones<S: Store>(trial: &Trial<S>) {
    let head = Head {
        user: Some(UserId::new("")),
        address: Some("".into()),
        user_agent: Some("".into()),
        label: Some("".into()),
        ..Head::default()
    };
    comes_back(trial, with_head(trial, head)).await;
}

pub(super) async fn every_reason_for_an_end_comes_back<S: Store>(trial: &Trial<S>) {
    let reasons = [
        Ended::Expired,
        Ended::AddressDiffers,
        Ended::UserAgentDiffers,
        Ended::Revoked,
        Ended::Deleted(String::new()),
        Ended::Deleted(odd_text(50)),
        Ended::Deleted(odd_text(10_000)),
        Ended::Malformed,
        Ended::LoggedIn,
        Ended::LoggedOut,
    ];
    for reason in reasons {
        let mut live = trial.record([slot("a", "1"), slot("b", noise(0, 3_000))]);
        *live.head_mut() = full_head();
        comes_back(trial, live.tombstone(reason, trial.now())).await;
    }
}

pub(super) async fn an_ended_record_may_have_slots<S: Store>(trial: &Trial<S>) {
    // What is left of a user has.
    let mut record = trial.record([slot("@sessions", noise(0, 3_000)), slot("a", "1")]);
    record.ended = Some(Ended::Deleted(odd_text(20)));
    comes_back(trial, record).await;
}

pub(super) async fn times_are_kept_to_the_millisecond<S: Store>(trial: &Trial<S>) {
    let at = |n: u32| trial.now() + n * super::trial::MS;
    let mut record = trial.record([Slot::new("a", "1", Some(at(1)))]);
    record.set(Slot::new("b", noise(0, 3_000), Some(at(2))).into());
    record.expires = at(3_600_003);
    record.updated = at(4);
    record.seen = at(5);
    record.head_mut().created = at(6);
    record.head_mut().limit = Some(at(7));
    record.head_mut().authenticated = Some(at(8));
    record.head_mut().secrets = secrets(at(9), 1);
    comes_back(trial, record).await;
}

pub(super) async fn the_earliest_and_latest_times_come_back<S: Store>(trial: &Trial<S>) {
    let [before, epoch] = [-1, 0].map(Timestamp::from_millis);
    for time in [FIRST, before, epoch, LAST] {
        // It never expires, so that it is kept whatever the other times.
        let mut record = trial.record([Slot::new("a", "1", Some(time))]);
        record.set(Slot::new("b", noise(0, 3_000), Some(time)).into());
        record.expires = LAST;
        record.updated = time;
        record.seen = time;
        record.head_mut().created = time;
        record.head_mut().ttl = Some(Duration::from_millis(u64::MAX));
        record.head_mut().limit = Some(time);
        record.head_mut().authenticated = Some(time);
        record.head_mut().secrets = secrets(time, u32::MAX - 50);
        record.head_mut().brought = u32::MAX;
        comes_back(trial, record).await;
    }
}
