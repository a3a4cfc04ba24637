//! How a field's value is stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use http::StatusCode;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use session_runtime::Session;
use session_tests::Site;

/// Has neither of serde's traits.
#[derive(Clone, Debug, Default, PartialEq)]
struct Celsius(i32);

mod celsius {
    use super::{Celsius, Deserialize, Serialize};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Celsius, to: S) -> Result<S::Ok, S::Error> {
        format!("{}°", value.0).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Celsius, D::Error> {
        let text = String::deserialize(from)?;
        let degrees = text.trim_end_matches('°').parse();
        degrees.map(Celsius).map_err(serde::de::Error::custom)
    }
}

fn warm(degrees: i32) -> Celsius {
    Celsius(degrees)
}

#[derive(Session)]
struct Weather {
    #[session(with = celsius, default = Celsius(20))]
    inside: Celsius,
    #[session(with = celsius, upgrade(from = i32, with = warm))]
    outside: Celsius,
    #[session(with = celsius)]
    #[merge(with = warmer)]
    best: Celsius,
}

fn warmer(sides: session_runtime::Sides<Celsius>) -> Celsius {
    let sides = [sides.ours, sides.theirs].map(Option::unwrap_or_default);
    sides
        .into_iter()
        .max_by_key(|side| side.0)
        .unwrap_or_default()
}

#[tokio::test]
async fn a_type_without_serde_is_stored_by_a_modules_functions() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(|mut s: Session<Weather>| async move {
            assert_eq!(*s.inside.get(), Celsius(20));
            s.best.set(Celsius(31));
        })
        .await;
    assert_eq!(
        site.payload(&visitor, "best").await.as_deref(),
        Some("\"31°\"")
    );
    site.plant(&visitor, "outside", "-4").await;
    site.plant(&visitor, "inside", "\"19°\" left over").await;
    visitor
        .visit(|mut s: Session<Weather>| async move {
            assert_eq!(
                (s.outside.get(), s.best.get()),
                (&Celsius(-4), &Celsius(31))
            );
            assert!(s.inside.try_get().is_err());
            s.inside.get_mut().0 = 21;
            assert_eq!(s.inside.try_get().unwrap(), &Celsius(21));
            s.outside.get_mut().0 = 3;
        })
        .await;
    assert_eq!(
        site.payload(&visitor, "outside").await.as_deref(),
        Some("\"3°\"")
    );
}

#[derive(Session)]
struct Profile {
    #[session(with = session_runtime::base64)]
    picture: Vec<u8>,
    #[session(with = session_runtime::base64)]
    thumbnail: Option<bytes::Bytes>,
    #[session(with = session_runtime::base64, default = [0; 4])]
    colour: [u8; 4],
    card: Card,
    raw: Vec<u8>,
}

#[derive(Default, Serialize, Deserialize)]
struct Card {
    #[serde(with = "session_runtime::base64")]
    logo: Vec<u8>,
    raw: Option<Vec<u8>>,
}

/// Every byte, to that length.
fn every_byte(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

#[tokio::test]
async fn bytes_are_stored_as_base64_and_read_as_what_they_were_stored_as_before() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(|mut s: Session<Profile>| async move {
            s.picture.set(every_byte(100 * 1024));
            s.thumbnail.set(None);
            s.card.get_mut().logo = vec![1, 2, 3];
        })
        .await;
    let picture = site
        .payload(&visitor, "picture")
        .await
        .expect("it is stored");
    assert!(picture.len() < 140 * 1024, "{}", picture.len());
    assert_eq!(
        site.payload(&visitor, "thumbnail").await.as_deref(),
        Some("null")
    );
    let card = site.payload(&visitor, "card").await;
    assert_eq!(card.as_deref(), Some(r#"{"logo":"AQID","raw":null}"#));
    site.plant(&visitor, "thumbnail", "[0,255]").await;
    site.plant(&visitor, "colour", "[1,2,3]").await;
    visitor
        .visit(|s: Session<Profile>| async move {
            assert!(*s.picture.get() == every_byte(100 * 1024));
            assert_eq!(s.thumbnail.get().as_deref(), Some(&[0, 255][..]));
            assert!(s.colour.try_get().is_err(), "it is a byte short");
            assert_eq!(s.card.get().logo, [1, 2, 3]);
        })
        .await;
}

#[tokio::test]
async fn bytes_that_are_too_large_as_a_list_are_told_of_base64() {
    let advice = "#[session(with = session_runtime::base64)]` above the field";
    let within = "#[serde(with = \"session_runtime::base64\")]` above them";
    let site = Site::in_memory();
    let (mut one, mut other, mut third) = (site.visitor(), site.visitor(), site.visitor());
    let of_bytes = one.visit(|mut s: Session<Profile>| async move {
        s.raw.set(every_byte(100 * 1024));
    });
    let of_a_card = other.visit(|mut s: Session<Profile>| async move {
        s.card.get_mut().raw = Some(every_byte(100 * 1024));
    });
    for (reply, advice) in [(of_bytes.await, advice), (of_a_card.await, within)] {
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        let error = reply.error.expect("the response has its error").to_string();
        assert!(error.contains(advice), "{error}");
    }
    let reply = third.visit(|mut s: Session<Profile>| async move {
        s.picture.set(every_byte(1024 * 1024));
    });
    let error = reply.await.error.expect("the response has its error");
    assert!(!error.to_string().contains("base64"), "{error}");
}

#[derive(Session)]
struct Chosen {
    #[session(ordered)]
    in_order: IndexMap<String, u32>,
    #[session(ordered)]
    within: Vec<Option<IndexMap<u8, IndexMap<bool, u8>>>>,
    sorted: IndexMap<String, u32>,
    unordered: HashMap<u32, u32>,
}

fn in_order<K: Clone + Eq + std::hash::Hash>(keys: &[K]) -> IndexMap<K, u32> {
    keys.iter().cloned().zip(1..).collect()
}

#[tokio::test]
async fn an_ordered_field_keeps_the_order_of_its_maps_and_a_change_of_order_is_a_change() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let keys = ["pear", "apple", "fig"].map(str::to_owned);
    visitor
        .visit(|mut s: Session<Chosen>| async move {
            s.in_order.set(in_order(&keys));
            s.sorted.set(in_order(&keys));
            let inner = IndexMap::from([(true, 1), (false, 2)]);
            s.within.set(vec![Some(IndexMap::from([
                (10, inner.clone()),
                (9, inner),
            ]))]);
            s.unordered.set((0..50).zip(1..).collect());
        })
        .await;
    for (name, stored) in [
        ("in_order", r#"{"pear":1,"apple":2,"fig":3}"#),
        (
            "within",
            r#"[{"10":{"true":1,"false":2},"9":{"true":1,"false":2}}]"#,
        ),
        ("sorted", r#"{"apple":2,"fig":3,"pear":1}"#),
    ] {
        assert_eq!(site.payload(&visitor, name).await.as_deref(), Some(stored));
    }
    site.store.round_trips();
    visitor
        .visit(|mut s: Session<Chosen>| async move {
            s.sorted.get_mut().reverse();
            // Another seed, another order.
            *s.unordered.get_mut() = s.unordered.get().clone().into_iter().collect();
            let _ = s.in_order.get_mut();
            let _ = s.within.get_mut();
        })
        .await;
    assert_eq!(site.store.round_trips(), (1, 0), "nothing has changed");
    visitor
        .visit(|mut s: Session<Chosen>| async move { s.in_order.get_mut().reverse() })
        .await;
    let stored = site.payload(&visitor, "in_order").await;
    assert_eq!(stored.as_deref(), Some(r#"{"fig":3,"apple":2,"pear":1}"#));
}

/// Values that are written and cannot be read as they are: each a kind of slip.
mod slips {
    use super::{AtomicU32, Deserialize, HashMap, Ordering, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Skips {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub(super) name: String,
        pub(super) size: u32,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Renames {
        #[serde(rename(serialize = "firstName"), default)]
        pub(super) first_name: String,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Flattens {
        #[serde(flatten)]
        pub(super) inner: Inner,
    }

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Inner {
        pub(super) wide: u128,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Untagged {
        Number(u32),
        Small(u8),
        Text(String),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    pub(super) enum Tagged {
        Wide { wide: u128 },
        Keyed { by: HashMap<u8, u8> },
    }

    #[derive(Default, Serialize, Deserialize)]
    pub(super) struct Counts {
        count: AtomicU32,
    }

    impl Counts {
        pub(super) fn one_more(&self) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Session)]
struct Slips {
    skips: slips::Skips,
    renames: slips::Renames,
    flattens: slips::Flattens,
    #[allow(clippy::option_option)] // the very slip
    twice: Option<Option<u32>>,
    unit: Option<()>,
    json: Option<serde_json::Value>,
    untagged: Option<slips::Untagged>,
    tagged: Option<slips::Tagged>,
    counts: slips::Counts,
    #[session(with = one_way)]
    with: Vec<u32>,
    // These are well.
    sets: std::collections::HashSet<String>,
    maps: HashMap<u32, std::collections::HashSet<u8>>,
    wide: u128,
    float: Option<f32>,
    floats: Vec<f64>,
    #[session(default = std::time::SystemTime::now())]
    at: std::time::SystemTime,
    #[session(default = minutes())]
    minutes: u32,
    #[flash]
    #[allow(clippy::option_option)]
    notice: Option<Option<String>>,
}

/// A clock that does not tell two moments of one request apart, but for once.
fn minutes() -> u32 {
    static READ: AtomicU32 = AtomicU32::new(0);
    READ.fetch_add(1, Ordering::Relaxed).min(1)
}

mod one_way {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &[u32], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&value.len())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
        Vec::deserialize(from)
    }
}

type Slip = (&'static str, fn(&mut Session<Slips>), &'static str);

const SLIPS: &[Slip] = &[
    (
        "skips",
        |s| s.skips.get_mut().size = 2,
        "missing field `name`",
    ),
    (
        "renames",
        |s| s.renames.get_mut().first_name.push_str("Ada"),
        "another value",
    ),
    (
        "flattens",
        |s| s.flattens.get_mut().inner.wide = u128::MAX,
        "cannot read",
    ),
    ("twice", |s| s.twice.set(Some(None)), "another value"),
    ("unit", |s| s.unit.set(Some(())), "another value"),
    (
        "json",
        |s| s.json.set(Some(serde_json::Value::Null)),
        "another value",
    ),
    (
        "tagged",
        |s| s.tagged.set(Some(slips::Tagged::Wide { wide: u128::MAX })),
        "cannot read",
    ),
    ("with", |s| s.with.set(vec![7]), "cannot read"),
    ("notice", |s| s.notice.set(Some(None)), "another value"),
    ("notice", |s| s.notice.now(Some(None)), "another value"),
    ("counts", |s| s.counts.get().one_more(), "through `get`"),
];

#[tokio::test]
async fn what_would_not_be_read_back_as_it_is_fails_at_the_write_with_its_fields_name() {
    for (name, slip, says) in SLIPS {
        let site = Site::in_memory();
        let mut visitor = site.visitor();
        let reply = visitor.visit(move |mut s: Session<Slips>| async move {
            s.wide.set(1);
            slip(&mut s);
        });
        let reply = reply.await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
        let error = reply.error.expect("the response has its error");
        assert!(error.is_encode());
        let source = std::error::Error::source(&error)
            .expect("it has a cause")
            .to_string();
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        assert!(source.contains(says), "{name}: {source}");
        assert!(!source.contains("Ada"));
        assert_eq!(visitor.id(), "", "nothing is written");
        // Who saves is told, and can mend it.
        let mut visitor = site.visitor();
        visitor
            .visit(move |mut s: Session<Slips>| async move {
                slip(&mut s);
                assert!(
                    s.save().await.is_err_and(|error| error.is_encode()),
                    "{name}"
                );
                mend(&mut s);
                s.save().await.expect("it is mended");
            })
            .await;
    }
}

fn mend(s: &mut Session<Slips>) {
    let s = s.fields();
    s.skips.clear();
    s.renames.clear();
    s.flattens.clear();
    s.twice.clear();
    s.unit.clear();
    s.json.clear();
    s.tagged.clear();
    s.counts.clear();
    s.with.clear();
    s.notice.clear();
}

#[tokio::test]
async fn what_is_read_back_as_it_is_passes() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    for _ in 0..3 {
        let reply = visitor.visit(|mut s: Session<Slips>| async move {
            let _ = (
                s.sets.get(),
                s.maps.get(),
                s.floats.get(),
                s.at.get(),
                s.minutes.get(),
                s.counts.get(),
            );
            s.sets.get_mut().insert("another".to_owned());
            s.maps.get_mut().entry(100).or_default().insert(1);
            s.floats
                .set(vec![f64::MIN_POSITIVE, 1e300, -0.0, 0.1 + 0.2]);
            s.wide.set(u128::MAX);
            s.float.set(Some(0.1));
            s.untagged.set(Some(slips::Untagged::Number(300)));
            s.json
                .set(Some(serde_json::json!({"b": [2.5, null, {}], "a": "x"})));
            s.notice.set(Some(Some("x".to_owned())));
        });
        assert_eq!(reply.await.status, StatusCode::OK);
    }
    site.plant(&visitor, "skips", "no JSON").await;
    let reply = visitor.visit(|s: Session<Slips>| async move { drop(s.skips.get().name.clone()) });
    assert_eq!(
        reply.await.status,
        StatusCode::OK,
        "what was unreadable before is another matter"
    );
}

#[tokio::test]
async fn a_default_that_cannot_be_stored_can_be_read() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    enum Step {
        #[default]
        #[serde(skip)]
        None,
        Paid,
    }

    #[derive(Session)]
    struct Order {
        step: Step,
    }

    let mut visitor = Site::in_memory()
        .with(|layer| layer.check_values(true))
        .visitor();
    let read = async |order: Session<Order>| format!("{:?}", order.step.get());
    assert_eq!(visitor.visit(read).await.body, "None");
    let pay = async |mut order: Session<Order>| order.step.set(Step::Paid);
    assert_eq!(visitor.visit(pay).await.status, StatusCode::OK);
    assert_eq!(visitor.visit(read).await.body, "Paid");
}

#[tokio::test]
async fn the_check_is_a_setting() {
    let site = Site::in_memory().with(|layer| layer.check_values(false));
    let mut visitor = site.visitor();
    let reply = visitor.visit(|mut s: Session<Slips>| async move { s.twice.set(Some(None)) });
    assert_eq!(reply.await.status, StatusCode::OK);
    assert_eq!(
        site.payload(&visitor, "twice").await.as_deref(),
        Some("null")
    );
}
