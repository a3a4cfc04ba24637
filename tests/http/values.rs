//! How a field's value is stored.

use http::StatusCode;
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
    let advice = "#[session(with = session_runtime::base64)]";
    let site = Site::in_memory();
    let (mut one, mut other, mut third) = (site.visitor(), site.visitor(), site.visitor());
    let of_bytes = one.visit(|mut s: Session<Profile>| async move {
        s.raw.set(every_byte(100 * 1024));
    });
    let of_a_card = other.visit(|mut s: Session<Profile>| async move {
        s.card.get_mut().raw = Some(every_byte(100 * 1024));
    });
    for reply in [of_bytes.await, of_a_card.await] {
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        let error = reply.error.expect("the response has its error").to_string();
        assert!(error.contains(advice), "{error}");
    }
    let reply = third.visit(|mut s: Session<Profile>| async move {
        s.picture.set(every_byte(1024 * 1024));
    });
    let error = reply.await.error.expect("the response has its error");
    assert!(!error.to_string().contains(advice), "{error}");
}
