//! Structs side by side in one session: of several crates, of an old and a new version of an app; and what of
//! a struct can be told without looking at its values.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use axum::handler::Handler;
use axum::routing::{MethodRouter, any};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use session_runtime::{PassiveSession, Saved, Session};
use session_tests::{Site, Visitor, on_each_store};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The app as it was.
mod old {
    use super::{Deserialize, Serialize, Session};

    #[derive(Session)]
    pub(crate) struct App {
        pub(crate) visits: u32,
        pub(crate) colour: String,
        pub(crate) price: u32,
        pub(crate) only_old: String,
        pub(crate) settings: Settings,
    }

    #[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Settings {
        pub(crate) dark: bool,
    }
}

/// The app as it is.
mod new {
    use super::{Deserialize, Serialize, Session};

    #[derive(Session)]
    pub(crate) struct App {
        #[merge(sum)]
        pub(crate) visits: u32,
        #[session(rename = "color", alias = "hue", alias = "colour")]
        pub(crate) colour: String,
        #[session(upgrade(from = u32, with = Price::from_cents))]
        pub(crate) price: Price,
        #[session(default = 20)]
        pub(crate) page_size: u32,
        pub(crate) settings: Settings,
        #[flash]
        pub(crate) notice: Option<String>,
    }

    #[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Settings {
        pub(crate) dark: bool,
        #[serde(default)]
        pub(crate) font: u8,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Price {
        pub(crate) cents: u32,
        pub(crate) currency: String,
    }

    impl Price {
        fn from_cents(cents: u32) -> Self {
            let currency = "EUR".to_owned();
            Self { cents, currency }
        }
    }
}

/// Of another crate.
#[derive(Session)]
#[session(prefix = "auth")]
struct Auth {
    visits: u32,
    #[session(rename = "name", alias = "login")]
    user: Option<String>,
    r#type: String,
}

/// Sends a request that succeeds.
async fn visit<T: 'static>(visitor: &mut Visitor, handler: impl Handler<T, ()>) -> String {
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    reply.body
}

/// The loads and commits of a request that succeeds.
async fn cost<T: 'static>(
    site: &Site,
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
) -> (usize, usize) {
    site.store.round_trips();
    visit(visitor, handler).await;
    site.store.round_trips()
}

/// Somebody who has been to the app as it was, in a process of its own.
async fn regular(site: &Site) -> Visitor {
    let mut visitor = Visitor::of(site.other_process());
    let was_here = async |mut session: Session<old::App>| {
        session.assign(old::App {
            visits: 1,
            colour: "teal".to_owned(),
            price: 250,
            only_old: "kept".to_owned(),
            settings: old::Settings { dark: true },
        });
    };
    visit(&mut visitor, was_here).await;
    visitor.moved_to(&site.layer)
}

on_each_store!(
    two_schemas_share_one_session_and_no_name,
    slots_that_a_struct_does_not_know_are_kept_as_they_are,
    an_old_and_a_new_struct_take_turns_and_lose_nothing,
    a_renamed_field_is_read_under_its_older_names_and_written_under_the_new_one,
    a_value_of_an_older_type_is_upgraded_when_it_is_read_and_rewritten_when_it_is_set,
    what_does_not_decode_is_served_as_the_default_and_kept_until_it_is_set,
    an_older_type_does_not_erase_an_inner_key_by_looking,
);

async fn two_schemas_share_one_session_and_no_name(site: Site) {
    let mut visitor = site.visitor();
    let both = async |mut app: Session<new::App>, mut auth: Session<Auth>| {
        app.visits.set(1);
        auth.visits.set(100);
        auth.user.set(Some("Ada".to_owned()));
        auth.r#type.set("admin".to_owned());
    };
    assert_eq!(cost(&site, &mut visitor, both).await, (0, 1));
    let read = async |app: Session<new::App>, auth: Session<Auth>| {
        format!("{} {}", app.visits.get(), auth.visits.get())
    };
    assert_eq!(visit(&mut visitor, read).await, "1 100");
    assert_eq!(cost(&site, &mut visitor, read).await, (1, 0));
    let record = site.record(&visitor).await.unwrap();
    let names: Vec<_> = record
        .slots()
        .iter()
        .map(|slot| slot.name().as_str())
        .collect();
    assert_eq!(names, ["auth.name", "auth.type", "auth.visits", "visits"]);
}

async fn slots_that_a_struct_does_not_know_are_kept_as_they_are(site: Site) {
    let mut visitor = regular(&site).await;
    let with_expiry = async |mut session: Session<old::App>| {
        session.only_old.expire_in(Duration::from_secs(60));
    };
    visit(&mut visitor.moved_to(&site.other_process()), with_expiry).await;
    let kept = site
        .record(&visitor)
        .await
        .unwrap()
        .slot("only_old")
        .cloned();
    assert!(kept.is_some());
    let handlers = [
        any(async |mut session: Session<new::App>| session.visits.set(9)),
        any(async |mut session: Session<new::App>| session.colour.set("red".to_owned())),
        any(async |mut session: Session<new::App>| session.rotate().await),
        any(async |mut session: Session<new::App>| session.set_ttl(Duration::from_secs(60))),
        any(async |mut session: Session<new::App>| session.assign(everything())),
        any(async |mut session: Session<Auth>| session.visits.set(9)),
    ];
    for handler in handlers {
        visit(&mut visitor, handler).await;
        let record = site.record(&visitor).await.unwrap();
        assert_eq!(record.slot("only_old").cloned(), kept);
    }
}

fn everything() -> new::App {
    new::App {
        visits: 7,
        colour: "grey".to_owned(),
        price: new::Price::default(),
        page_size: 50,
        settings: new::Settings::default(),
        notice: Some("Hello".to_owned()),
    }
}

async fn an_old_and_a_new_struct_take_turns_and_lose_nothing(site: Site) {
    let mut visitor = regular(&site).await;
    let mut at_older = visitor.moved_to(&site.other_process());
    for _ in 0..10 {
        let old = async |mut session: Session<old::App>| {
            assert_eq!(session.only_old.get(), "kept");
            assert!(session.settings.get().dark);
            *session.visits.get_mut() += 1;
        };
        let new = async |mut session: Session<new::App>| {
            assert_eq!(session.colour.get(), "teal");
            assert_eq!(session.price.get().cents, 250);
            assert!(session.settings.get().dark);
            *session.visits.get_mut() += 1;
            *session.page_size.get_mut() += 1;
        };
        visit(&mut at_older, old).await;
        visit(&mut visitor, new).await;
    }
    assert_eq!(site.payload(&visitor, "visits").await.unwrap(), "21");
    assert_eq!(site.payload(&visitor, "page_size").await.unwrap(), "30");
}

async fn a_renamed_field_is_read_under_its_older_names_and_written_under_the_new_one(site: Site) {
    let read = async |session: Session<new::App>| session.colour.get().clone();
    let look = async |mut session: Session<new::App>| session.colour.get_mut().len().to_string();
    let grow = async |mut session: Session<new::App>| session.colour.get_mut().push('!');
    for older in ["colour", "hue"] {
        let mut visitor = site.visitor();
        visit(&mut visitor, async |mut session: Session<Auth>| {
            session.visits.set(1);
        })
        .await;
        site.plant(&visitor, older, r#""teal""#).await;
        let names = async |visitor: &Visitor| {
            let (old, new) = (
                site.payload(visitor, older).await,
                site.payload(visitor, "color").await,
            );
            format!("{} {}", old.unwrap_or_default(), new.unwrap_or_default())
        };
        assert_eq!(visit(&mut visitor, read).await, "teal");
        assert_eq!(visit(&mut visitor, look).await, "4");
        assert_eq!(names(&visitor).await, r#""teal" "#, "looking moves nothing");
        visit(&mut visitor, grow).await;
        assert_eq!(names(&visitor).await, r#" "teal!""#);
        assert_eq!(visit(&mut visitor, read).await, "teal!");
    }
    let mut visitor = regular(&site).await;
    visit(&mut visitor, async |mut session: Session<new::App>| {
        session.colour.clear();
    })
    .await;
    assert_eq!(visit(&mut visitor, read).await, "");
    assert_eq!(site.payload(&visitor, "colour").await, None);
    // The alias of a prefixed field has the prefix, too.
    site.plant(&visitor, "auth.login", r#""Ada""#).await;
    let user = async |session: Session<Auth>| session.user.get().clone().unwrap_or_default();
    assert_eq!(visit(&mut visitor, user).await, "Ada");
}

async fn a_value_of_an_older_type_is_upgraded_when_it_is_read_and_rewritten_when_it_is_set(
    site: Site,
) {
    let mut visitor = regular(&site).await;
    let look = async |mut session: Session<new::App>| {
        let upgraded = new::Price {
            cents: 250,
            currency: "EUR".to_owned(),
        };
        assert_eq!(session.price.try_get().unwrap(), &upgraded);
        assert_eq!(session.price.get_mut(), &upgraded);
    };
    assert_eq!(cost(&site, &mut visitor, look).await, (1, 0));
    assert_eq!(site.payload(&visitor, "price").await.unwrap(), "250");
    let raise = async |mut session: Session<new::App>| session.price.get_mut().cents += 1;
    assert_eq!(cost(&site, &mut visitor, raise).await, (1, 1));
    let stored = site.payload(&visitor, "price").await.unwrap();
    assert_eq!(stored, r#"{"cents":251,"currency":"EUR"}"#);
    let read = async |session: Session<new::App>| session.price.get().cents.to_string();
    assert_eq!(visit(&mut visitor, read).await, "251");
}

async fn what_does_not_decode_is_served_as_the_default_and_kept_until_it_is_set(site: Site) {
    const CORRUPT: [&[u8]; 9] = [
        b"",
        b"{",
        b"null",
        b"-1",
        b"1 1",
        b"[1]",
        b"\"secret\"",
        b"\0\xff\xfe",
        b"1e999",
    ];
    let keeps = || -> Vec<MethodRouter> {
        vec![
            any(async |session: Session<new::App>| {
                assert_eq!(session.page_size.get(), &20);
                assert!(!session.page_size.is_present());
                assert_eq!(session.page_size.expires_at(), None);
                let error = session.page_size.try_get().unwrap_err().to_string();
                assert!(
                    error.contains("`page_size`") && !error.contains("secret"),
                    "{error}"
                );
            }),
            any(async |mut session: Session<new::App>| {
                assert_eq!(session.page_size.get_mut(), &20);
            }),
            any(async |mut session: Session<new::App>| *session.visits.get_mut() += 1),
            any(async |mut session: Session<new::App>| session.rotate().await),
            any(async |mut session: Session<new::App>| {
                assert_eq!(session.page_size.take(), 20);
                assert!(!session.page_size.is_present());
            }),
            any(async |mut session: Session<new::App>| {
                session.page_size.expire_in(Duration::from_secs(1));
            }),
        ]
    };
    let sets: [MethodRouter; 2] = [
        any(async |mut session: Session<new::App>| session.page_size.set(21)),
        any(async |mut session: Session<new::App>| *session.page_size.get_mut() += 1),
    ];
    for corrupt in CORRUPT {
        for set in &sets {
            let mut visitor = regular(&site).await;
            site.plant(&visitor, "page_size", corrupt).await;
            for keep in keeps() {
                visit(&mut visitor, keep).await;
                let record = site.record(&visitor).await.unwrap();
                let slot = record.slot("page_size").unwrap();
                assert_eq!((slot.payload(), slot.expires()), (corrupt, None));
            }
            visit(&mut visitor, set.clone()).await;
            assert_eq!(site.payload(&visitor, "page_size").await.unwrap(), "21");
        }
    }
}

async fn an_older_type_does_not_erase_an_inner_key_by_looking(site: Site) {
    const BOTH: &str = r#"{"dark":true,"font":12}"#;
    let mut visitor = regular(&site).await;
    site.plant(&visitor, "settings", BOTH).await;
    let look = async |mut session: Session<old::App>| {
        assert!(session.settings.get_mut().dark);
        session.settings.get_mut().dark = false;
        session.settings.get_mut().dark = true;
    };
    assert_eq!(cost(&site, &mut visitor, look).await, (1, 0));
    assert_eq!(site.payload(&visitor, "settings").await.unwrap(), BOTH);
}

/// While a field is renamed, both versions of the app are there.
mod renamed {
    use super::Session;

    #[derive(Session)]
    pub(crate) struct Before {
        #[expire("1m")]
        pub(crate) coupon: Option<String>,
    }

    #[derive(Session)]
    pub(crate) struct After {
        #[expire("1m")]
        #[session(alias = "coupon")]
        pub(crate) code: Option<String>,
    }
}

#[tokio::test]
async fn what_is_stored_under_an_older_name_reads_though_the_present_one_has_lapsed() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let read = async |session: Session<renamed::After>| session.code.get().clone().unwrap();
    let set = async |mut session: Session<renamed::After>| session.code.set("first");
    visit(&mut visitor, set).await;
    site.clock.advance(Duration::from_secs(90));
    let set = async |mut session: Session<renamed::Before>| session.coupon.set("second");
    let mut before = visitor.moved_to(&site.other_process());
    visit(&mut before, set).await;
    assert_eq!(visit(&mut visitor, read).await, "second");
    let set = async |mut session: Session<renamed::After>| {
        session.code.get_mut().as_mut().unwrap().push('!');
    };
    visit(&mut visitor, set).await;
    assert_eq!(visit(&mut visitor, read).await, "second!");
    let record = site.record(&visitor).await.unwrap();
    assert!(record.slot("coupon").is_none());
}

#[tokio::test]
async fn a_flash_that_does_not_decode_is_kept_too() {
    let site = Site::in_memory();
    let mut visitor = regular(&site).await;
    site.plant(&visitor, "notice", "[1]").await;
    let reads = [
        any(async |session: Session<new::App>| assert_eq!(session.notice.get(), &None)),
        any(async |mut session: Session<new::App>| assert_eq!(session.notice.get_mut(), &None)),
        any(async |session: Session<new::App>| assert!(session.notice.try_get().is_err())),
        any(async |mut session: Session<new::App>| assert_eq!(session.notice.take(), None)),
        any(async |mut session: Session<new::App>| {
            assert_eq!(session.notice.claim().await.unwrap(), None);
        }),
    ];
    for read in reads {
        visit(&mut visitor, read).await;
        assert_eq!(site.payload(&visitor, "notice").await.unwrap(), "[1]");
    }
}

#[tokio::test]
async fn a_merge_never_overwrites_what_it_cannot_decode() {
    let site = Site::in_memory();
    let mut visitor = regular(&site).await;
    let meanwhile = std::sync::Arc::new(site);
    let (site, tab) = (meanwhile.clone(), visitor.clone());
    let count = async move |mut session: Session<new::App>| {
        *session.visits.get_mut() += 1;
        session.page_size.set(5);
        site.plant(&tab, "visits", "\"many\"").await;
    };
    visit(&mut visitor, count).await;
    assert_eq!(
        meanwhile.payload(&visitor, "visits").await.unwrap(),
        "\"many\""
    );
    assert_eq!(meanwhile.payload(&visitor, "page_size").await.unwrap(), "5");
}

#[derive(Session)]
struct OldGame {
    points: u32,
    seen: Vec<u32>,
}

#[derive(Session)]
struct Game {
    #[merge(sum)]
    #[session(alias = "points")]
    score: u32,
    #[merge(append)]
    #[session(alias = "seen")]
    levels: Vec<u32>,
}

fn play(game: &mut GameSession, level: u32) {
    *game.score.get_mut() += 1;
    game.levels.get_mut().push(level);
}

#[tokio::test]
async fn a_field_that_is_renamed_while_another_writes_it_is_merged_under_the_new_name() {
    async fn new_app(mut session: Session<Game>) {
        play(session.fields(), 2);
    }
    async fn old_app(mut session: Session<OldGame>) {
        *session.points.get_mut() += 1;
        session.seen.get_mut().push(2);
    }
    async fn other_handle(mut one: Session<Game>, mut other: Session<Game>) {
        play(one.fields(), 2);
        drop(one);
        play(other.fields(), 3);
    }
    let amid = |mut tab: Visitor, meanwhile: MethodRouter| {
        any(async move |mut session: Session<Game>| {
            play(session.fields(), 3);
            visit(&mut tab, meanwhile).await;
        })
    };
    let site = Site::in_memory();
    for writers in [
        "two new requests",
        "an old and a new request",
        "two handles",
    ] {
        let mut visitor = regular(&site).await;
        site.plant(&visitor, "points", "5").await;
        site.plant(&visitor, "seen", "[1]").await;
        let handler = match writers {
            "two handles" => any(other_handle),
            "two new requests" => amid(visitor.clone(), any(new_app)),
            _ => amid(visitor.moved_to(&site.other_process()), any(old_app)),
        };
        visit(&mut visitor, handler).await;
        let mut stored = Vec::new();
        for name in ["score", "levels", "points", "seen"] {
            stored.push(site.payload(&visitor, name).await.unwrap_or_default());
        }
        assert_eq!(stored, ["7", "[1,2,3]", "", ""], "{writers}");
    }
}

#[tokio::test]
async fn a_field_without_a_value_has_its_default_and_keeps_nothing() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let look = async |mut session: Session<new::App>| {
        assert_eq!(session.page_size.get(), &20);
        assert_eq!(session.page_size.get_mut(), &20);
        assert_eq!(session.page_size.take(), 20);
        assert_eq!(session.page_size.get(), &20);
        assert!(!session.page_size.is_present());
    };
    assert_eq!(cost(&site, &mut visitor, look).await, (0, 0));
    let set = async |mut session: Session<new::App>| session.page_size.set(20);
    assert_eq!(cost(&site, &mut visitor, set).await, (0, 1));
    let take = async |mut session: Session<new::App>| {
        assert!(session.page_size.is_present());
        *session.page_size.get_mut() = 30;
        assert_eq!(session.page_size.take(), 30);
        assert!(!session.page_size.is_present());
    };
    assert_eq!(cost(&site, &mut visitor, take).await, (1, 1));
    assert_eq!(site.payload(&visitor, "page_size").await, None);
}

#[derive(Session)]
struct Maps {
    stock: HashMap<String, u32>,
    nested: BTreeMap<u8, HashMap<u64, Vec<HashMap<char, bool>>>>,
    #[session(default = HashMap::from([(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')]))]
    letters: HashMap<u8, char>,
}

#[tokio::test]
async fn a_map_that_is_borrowed_and_not_changed_is_clean_whatever_its_seed() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let fill = async |mut session: Session<Maps>| {
        let stock = (0..50).map(|n| (format!("item {n}"), n));
        session.stock.set(stock.collect());
        let inner = || "abcdefgh".chars().map(|letter| (letter, true)).collect();
        let nested = (0..4).map(|n| (n, (0..20).map(|m| (m, vec![inner(), inner()])).collect()));
        session.nested.set(nested.collect());
    };
    visit(&mut visitor, fill).await;
    let borrow = async |mut session: Session<Maps>| {
        let maps = session.fields();
        assert_eq!(maps.stock.get_mut().len(), 50);
        assert_eq!(maps.nested.get_mut().len(), 4);
        assert_eq!(maps.letters.get_mut().len(), 4);
        let rebuilt = maps.stock.get().clone().into_iter().collect();
        maps.stock.set(rebuilt);
    };
    for _ in 0..10 {
        assert_eq!(cost(&site, &mut visitor, borrow).await, (1, 0));
    }
    let count = async |mut session: Session<Maps>| {
        *session.stock.get_mut().get_mut("item 7").unwrap() += 1;
    };
    assert_eq!(cost(&site, &mut visitor, count).await, (1, 1));
}

#[tokio::test]
async fn assign_sets_every_field_at_once() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let assign = async |mut session: Session<new::App>| session.assign(everything());
    assert_eq!(cost(&site, &mut visitor, assign).await, (0, 1));
    let stored = [
        ("visits", "7"),
        ("color", r#""grey""#),
        ("price", r#"{"cents":0,"currency":""}"#),
        ("page_size", "50"),
        ("settings", r#"{"dark":false,"font":0}"#),
        ("notice", r#""Hello""#),
    ];
    for (name, payload) in stored {
        assert_eq!(site.payload(&visitor, name).await.as_deref(), Some(payload));
    }
}

#[tokio::test]
async fn fields_lends_several_cells_at_once() {
    let site = Site::in_memory();
    let mut visitor = regular(&site).await;
    let swap = async |mut session: Session<old::App>| {
        let app = session.fields();
        std::mem::swap(app.colour.get_mut(), app.only_old.get_mut());
    };
    assert_eq!(cost(&site, &mut visitor, swap).await, (1, 1));
    assert_eq!(site.payload(&visitor, "colour").await.unwrap(), r#""kept""#);
    assert_eq!(
        site.payload(&visitor, "only_old").await.unwrap(),
        r#""teal""#
    );
}

#[tokio::test]
async fn debug_shows_names_and_presence_and_neither_values_nor_the_id() {
    const CANARY: &str = "canary";
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let fill = async |mut session: Session<new::App>| {
        session.colour.set(CANARY.to_owned());
        session.colour.expire_in(Duration::from_secs(60));
        session.price.set(new::Price {
            cents: 987_654,
            currency: CANARY.to_owned(),
        });
        format!("{session:?}")
    };
    let told = async |session: Session<new::App>, passive: PassiveSession<new::App>| {
        let (id, cells) = (session.id(), &*session);
        session.notice.peek();
        format!(
            "{session:?} {passive:?} {id:?} {cells:?} {:?}",
            session.price
        )
    };
    let filled = visit(&mut visitor, fill).await;
    let until = site.now().as_millis() + 60_000;
    let expected = format!(
        "Session {{ visits: absent, color: present until {until} ms, price: present, page_size: absent, \
         settings: absent, notice: absent, .. }}"
    );
    assert_eq!(filled, expected);
    let told = visit(&mut visitor, told).await;
    assert!(told.starts_with(&expected), "{told}");
    for secret in [CANARY, "987654", "987_654", &visitor.id()] {
        assert!(!told.contains(secret) && !filled.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn facts_are_told_without_a_load_of_their_own() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let start = SystemTime::from(site.now());
    let begin = async move |mut session: Session<new::App>| {
        assert!(session.is_new());
        assert_eq!(session.id(), None);
        assert_eq!((session.created_at(), session.updated_at()), (None, None));
        assert_eq!(session.expires_at(), None);
        session.visits.set(1);
        assert!(session.is_new());
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        assert!(!session.is_new());
        assert_eq!(
            (session.created_at(), session.updated_at()),
            (Some(start), Some(start))
        );
        session.id().unwrap().expose().to_owned()
    };
    let reply = visitor.visit(begin).await;
    assert_eq!(reply.body, visitor.id());
    assert_eq!(site.store.round_trips(), (0, 1));

    let facts = async |session: Session<new::App>| {
        let since = |time: Option<SystemTime>, then: SystemTime| {
            time.unwrap().duration_since(then).unwrap().as_secs() / 3600
        };
        assert!(!session.is_new());
        let created = session.created_at().unwrap();
        let (updated, expires) = (session.updated_at(), session.expires_at());
        format!("{} {}", since(updated, created), since(expires, created))
    };
    assert_eq!(cost(&site, &mut visitor, facts).await, (1, 0));
    assert_eq!(visit(&mut visitor, facts).await, "0 2");
    site.clock.advance(HOUR);
    assert_eq!(
        visit(&mut visitor, facts).await,
        "0 3",
        "this request included"
    );
    assert_eq!(
        visit(&mut visitor, facts).await,
        "0 3",
        "extending is not updating"
    );
    let change = async |mut session: Session<new::App>| session.visits.set(2);
    visit(&mut visitor, change).await;
    assert_eq!(visit(&mut visitor, facts).await, "1 3");
}

#[derive(Session)]
struct Numbers {
    ratio: f64,
    count: u32,
    #[session(rename = "answers")]
    tree: serde_json::Value,
}

/// A list in a list in a list …
fn nested(levels: usize) -> serde_json::Value {
    (0..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into())
}

#[tokio::test]
async fn what_is_nested_deeper_than_can_be_read_back_is_an_error_that_names_the_field() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let too_deep = async |mut session: Session<Numbers>| {
        session.count.set(1);
        session.tree.set(nested(128));
    };
    let reply = visitor.visit(too_deep).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(reply.set_cookies().is_empty());
    assert_eq!(site.store.round_trips(), (0, 0));
    let mend = async |mut session: Session<Numbers>| {
        session.count.set(1);
        session.tree.set(nested(128));
        let error = session.save().await.unwrap_err();
        assert!(error.is_encode());
        assert!(error.to_string().contains("`answers`"), "{error}");
        session.tree.set(nested(127));
        assert_eq!(session.save().await.unwrap(), Saved::Written);
    };
    visit(&mut visitor, mend).await;
    let reads = async |session: Session<Numbers>| {
        assert_eq!(session.tree.try_get().unwrap(), &nested(127));
        session.count.get().to_string()
    };
    assert_eq!(visit(&mut visitor, reads).await, "1");
    // One level more, in place.
    let wrap = async |mut session: Session<Numbers>| {
        let inner = session.tree.get_mut().take();
        *session.tree.get_mut() = vec![inner].into();
    };
    let reply = visitor.visit(wrap).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(visit(&mut visitor, reads).await, "1");
}

#[tokio::test]
async fn a_value_without_a_json_form_is_an_error_and_writes_nothing() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    for ratio in [f64::NAN, f64::INFINITY] {
        let divide = async move |mut session: Session<Numbers>| {
            session.count.set(1);
            session.ratio.set(ratio);
        };
        let reply = visitor.visit(divide).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(reply.set_cookies().is_empty());
        assert_eq!(site.store.round_trips(), (0, 0));
        let mend = async move |mut session: Session<Numbers>| {
            session.count.set(1);
            session.ratio.set(ratio);
            assert!(session.save().await.unwrap_err().is_encode());
            session.ratio.set(0.1);
            assert_eq!(session.save().await.unwrap(), Saved::Written);
        };
        visit(&mut visitor, mend).await;
        assert_eq!(site.payload(&visitor, "ratio").await.unwrap(), "0.1");
        assert_eq!(site.payload(&visitor, "count").await.unwrap(), "1");
        visitor = site.visitor();
        site.store.round_trips();
    }
}
