//! What is stored of sessions and users, looked at and changed behind the layer's back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use session_runtime::store::{Record, Slot, Swapped};
use session_runtime::{Device, Key, Timestamp};
use session_tests::{Site, Visitor};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn load(site: &Site, key: &Key) -> Option<Arc<Record>> {
    let loaded = site.store.inner().load_latest(key).await;
    loaded.expect("the store answers")
}

pub(super) async fn load_user(site: &Site, user: &str) -> Option<Arc<Record>> {
    load(site, &Key::User(user.into())).await
}

/// Returns what is stored of a user: what was seen, and how many points that makes.
pub(super) async fn account(site: &Site, user: &str) -> String {
    let record = load_user(site, user).await;
    let field = |name: &str| {
        let slot = record.as_ref()?.live_slot(name, site.now())?;
        Some(String::from_utf8_lossy(slot.payload()).into_owned())
    };
    let [seen, points] = ["seen", "points"].map(|name| field(name).unwrap_or_default());
    format!("{seen} {points}")
}

/// Puts bytes into a user's record, as another version of the app would.
pub(super) async fn plant(site: &Site, user: &str, name: &str, payload: &str) {
    let record = load_user(site, user).await.expect("a user");
    let slot = Arc::new(Slot::new(name, payload.to_owned(), None));
    let after = Arc::new(record.next().with_slots([slot]));
    let key = Key::User(user.into());
    let swapped = site.store.inner().swap(&key, Some(&record), &after).await;
    assert_eq!(swapped.expect("the store answers"), Swapped::Done);
}

/// The names of a record's slots.
pub(super) fn names(record: &Record) -> Vec<&str> {
    let slots = record.slots().iter();
    slots.map(|slot| slot.name().as_str()).collect()
}

/// Returns `true` if a session holds anything of that name, be it set apart.
pub(super) fn holds_any(record: &Record, part: &str) -> bool {
    names(record).iter().any(|name| name.contains(part))
}

/// A session in the list of a user's.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) until: Timestamp,
    pub(super) leaving: bool,
    /// Up to which number each field has been credited.
    pub(super) credited: BTreeMap<String, u64>,
}

impl Place {
    fn of(place: &serde_json::Value) -> Self {
        let credited = place["c"].as_object();
        let number = |number: &serde_json::Value| number.as_u64().expect("a number");
        Self {
            key: Key::parse(place["s"].as_str().expect("a key")).expect("a key"),
            until: Timestamp::from_millis(place["u"].as_i64().expect("a time")),
            leaving: place["l"] == true,
            credited: credited
                .iter()
                .flat_map(|credited| credited.iter())
                .map(|(field, upto)| (field.clone(), number(upto)))
                .collect(),
        }
    }
}

/// The list in a user's record.
pub(super) async fn places(site: &Site, user: &str) -> Vec<Place> {
    let record = load_user(site, user).await;
    let Some(slot) = record.as_ref().and_then(|record| record.slot("@sessions")) else {
        return Vec::new();
    };
    let list: serde_json::Value = serde_json::from_slice(slot.payload()).expect("JSON");
    let places = list["p"].as_array().expect("a list");
    places.iter().map(Place::of).collect()
}

/// The keys of all sessions that may use a user's record.
pub(super) async fn admitted(site: &Site, user: &str) -> Vec<Key> {
    let places = places(site, user).await.into_iter();
    let mut keys: Vec<_> = places
        .filter(|place| !place.leaving)
        .map(|place| place.key)
        .collect();
    keys.sort();
    keys
}

pub(super) async fn list(site: &Site, user: &str) -> Vec<Device> {
    let sessions = site.layer.sessions();
    let listed = sessions.list(user).await;
    listed.expect("the store answers")
}

/// The loads and swaps of a request that succeeds.
pub(super) async fn cost<T: 'static>(
    site: &Site,
    visitor: &mut Visitor,
    handler: impl axum::handler::Handler<T, ()>,
) -> (usize, usize) {
    site.store.round_trips();
    session_tests::customers::ask(visitor, handler).await;
    site.store.round_trips()
}
