//! What the derive accepts, and what it makes of it, under every lint.

#![deny(missing_docs, warnings, clippy::all, clippy::pedantic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use session_runtime::{Merge, Occasion, Schema, Session, Sides};
use session_tests::Site;

/// Every attribute, every rule.
#[derive(Session)]
#[session(ttl = "2h", absolute = "30 days", prefix = "shop", merge = user)]
struct Everything {
    /// By the struct's rule.
    currency: Option<String>,
    #[merge(guest)]
    language: Option<String>,
    #[merge(append)]
    viewed: Vec<u64>,
    #[merge(union)]
    tags: BTreeSet<String>,
    #[merge(sum)]
    cart: BTreeMap<String, u32>,
    #[merge(max)]
    best: u32,
    #[merge(min)]
    least: Option<u32>,
    #[merge(deep)]
    settings: BTreeMap<String, BTreeMap<String, bool>>,
    #[merge(by_key = product.sku)]
    lines: Vec<Line>,
    #[merge(left_precedent)]
    left: Value,
    #[merge(right_precedent)]
    right: Value,
    #[merge(storage_precedent)]
    storage: Value,
    #[merge(retainment_precedent)]
    retainment: Value,
    #[merge(reject)]
    order: Option<u64>,
    #[merge(with = longest)]
    query: String,
    #[expire("15m")]
    checkout: Option<String>,
    #[expire("1h 30m", sliding)]
    draft: Option<String>,
    #[flash]
    notice: Option<String>,
    #[flash]
    #[expire("1 day")]
    error: Option<String>,
    #[session(rename = "page-size", alias = "page", alias = "size", default = 20)]
    page_size: u32,
    #[session(default = BTreeMap::<String, u8>::from([]), upgrade(from = Vec<String>, with = counted))]
    ratings: BTreeMap<String, u8>,
    #[session(default = SystemTime::UNIX_EPOCH)]
    since: SystemTime,
    #[merge(sum, browser)]
    pages: u32,
    #[flash]
    #[merge(append, browser)]
    notices: Vec<String>,
    #[session(guest, alias = "csrf")]
    token: Option<String>,
    #[session(guest, rename = "tried")]
    #[merge(max, browser)]
    #[expire("1h")]
    tries: u32,
}

fn longest(sides: Sides<String>) -> String {
    let (ours, theirs) = (
        sides.ours.unwrap_or_default(),
        sides.theirs.unwrap_or_default(),
    );
    if ours.len() > theirs.len() {
        ours
    } else {
        theirs
    }
}

/// A value whose parts merge, by every rule that a part can have.
#[derive(Debug, Merge, PartialEq, Serialize, Deserialize)]
struct Line {
    product: Product,
    #[merge(user)]
    price: Option<u32>,
    #[merge(guest)]
    color: Option<String>,
    #[merge(append)]
    notes: Vec<String>,
    #[merge(union)]
    tags: BTreeSet<String>,
    #[merge(sum)]
    quantity: u32,
    #[merge(max)]
    changed: u64,
    #[merge(min)]
    added: u64,
    #[merge(deep)]
    packing: Packing,
    #[merge(by_key = product.sku)]
    parts: Vec<Self>,
    #[merge(storage_precedent)]
    extras: Value,
    #[merge(with = longest)]
    engraving: String,
}

/// No rules: the later writer wins on each field alone. No `Default`, and no `Clone`.
#[derive(Debug, Merge, PartialEq, Serialize, Deserialize)]
struct Product {
    sku: String,
    /// A deprecated field.
    #[deprecated = "nobody asks"]
    weight: f32,
}

/// Fields that are called as keywords, or as things in macro output.
#[derive(Debug, Default, Merge, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packing {
    #[merge(max)]
    r#type: u32,
    base: u32,
    ours: u32,
    theirs: u32,
    occasion: u32,
    sides: u32,
    item: u32,
    __session: u32,
}

/// Nothing to merge.
#[derive(Debug, Merge, PartialEq)]
struct Empty {}

/// Is made of its like.
#[derive(Merge, PartialEq)]
struct Tree {
    #[merge(with = more)]
    branches: Vec<Self>,
}

fn more(sides: Sides<Vec<Tree>>) -> Vec<Tree> {
    let sides = [sides.ours, sides.theirs].map(Option::unwrap_or_default);
    sides.into_iter().max_by_key(Vec::len).unwrap_or_default()
}

fn counted(names: Vec<String>) -> BTreeMap<String, u8> {
    names.into_iter().map(|name| (name, 1)).collect()
}

/// No fields, for an app that only wants to know who is logged in.
#[derive(Session)]
struct Nothing {}

/// Fields that are called as keywords, or as things in the runtime and in macro output.
#[derive(Session)]
struct Names {
    r#type: String,
    r#struct: u32,
    session: u32,
    __session: u32,
    cells: u32,
    slots: u32,
    visit: u32,
    request: u32,
    borrowed: u32,
    set: u32,
    get: u32,
    id: u32,
    user: u32,
    straße: u32,
}

/// A schema that other modules, and other crates, can use.
pub mod public {
    use session_runtime::Session;

    /// What is public about a visitor.
    #[derive(Debug, Session)]
    #[session(prefix = "visitor")]
    pub struct Visitor {
        /// How often they came.
        #[merge(sum)]
        pub visits: u32,
        /// Where they came from.
        pub(crate) referrer: Option<String>,
        pub(in crate::derive::public) seen: Seen,
        secret: Seen,
    }

    /// What only this module knows.
    #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
    pub(in crate::derive::public) struct Seen(u32);

    /// Looks at all of it.
    pub async fn seen(mut session: Session<Visitor>) -> String {
        session.seen.get_mut().0 += 1;
        let seen = session.seen.get().clone();
        session.secret.set(seen);
        format!("{} {}", session.seen.get().0, session.secret.get().0)
    }
}

/// A module where nothing is what it is called.
mod shadowed {
    #![allow(dead_code, unused_macros, non_camel_case_types, non_upper_case_globals)]

    use ::session_runtime::{Merge, Session};

    mod std {}
    mod core {}
    mod session_runtime {}
    mod serde {}

    struct Option;
    struct Result;
    struct Some;
    struct None;
    struct Ok;
    struct Err;
    struct Vec;
    struct Box;
    struct String;
    struct Default;
    struct Debug;
    struct Field;
    struct Flash;
    struct Row;
    struct Send;
    struct Sync;
    struct bool;
    struct u64;
    struct str;

    static slots: () = ();
    static cells: () = ();
    static visit: () = ();
    static base: () = ();
    static item: () = ();
    static payload: () = ();

    macro_rules! compile_error {
        () => {};
    }

    /// Has methods for everything, which take everything.
    trait Everywhere: Sized {
        fn set(self, _: Self) {}
        fn open(self) {}
        fn merge(self) {}
        fn aliases(self) {}
        fn expire(self) {}
        fn flash(self) {}
        fn decode(self) {}
        fn reject(self) {}
        fn default() {}
    }

    impl<T> Everywhere for T {}

    #[derive(Merge, PartialEq)]
    pub(super) struct Part {
        #[merge(sum)]
        pub(super) visits: i32,
        #[merge(with = theirs)]
        pub(super) number: i32,
        pub(super) plain: i32,
        #[merge(by_key = plain)]
        pub(super) parts: ::std::vec::Vec<Part>,
    }

    #[derive(Session)]
    #[session(ttl = "1h", absolute = "1d")]
    pub(super) struct Shadowed {
        #[merge(sum)]
        #[session(alias = "visited")]
        #[expire("1h")]
        pub(super) visits: u32,
        #[flash]
        pub(super) notice: ::std::string::String,
        #[merge(with = sides)]
        #[session(upgrade(from = i8, with = from_small), default = 3)]
        pub(super) number: i32,
        #[merge(reject)]
        pub(super) order: i32,
    }

    fn theirs<T: ::core::default::Default>(of: ::session_runtime::Sides<T>) -> T {
        of.theirs.unwrap_or_default()
    }

    fn sides<T: ::core::default::Default>(both: ::session_runtime::Sides<T>) -> T {
        theirs(both)
    }

    fn from_small(small: i8) -> i32 {
        small.into()
    }
}

/// A struct that is called as the extractor and the derive are.
mod called_session {
    #[derive(session_runtime::Session)]
    pub(super) struct Session {
        #[merge(sum)]
        pub(super) visits: u32,
        #[flash]
        pub(super) notice: Option<String>,
    }

    pub(super) async fn visit(mut session: session_runtime::Session<Session>) -> String {
        *session.visits.get_mut() += 1;
        session.notice.set("Again.");
        session.visits.get().to_string()
    }
}

/// A schema that a macro writes.
macro_rules! schema {
    ($vis:vis $name:ident ($ttl:literal) { $($field:ident: $ty:ty = $default:expr, $rule:ident;)* }) => {
        /// Made by a macro.
        #[derive(Session)]
        #[session(ttl = $ttl)]
        $vis struct $name {
            $(
                #[merge($rule)]
                #[session(default = $default)]
                $field: $ty,
            )*
        }
    };
}

schema! {
    pub(crate) Written ("1h 1m") {
        cart: BTreeMap<String, u32> = BTreeMap::from([("apple".to_owned(), 1)]), sum;
        best: u32 = 1 + 2, max;
    }
}

/// A part that a macro writes.
macro_rules! part {
    ($name:ident { $($field:ident: $ty:ty, $rule:ident;)* }) => {
        /// Made by a macro.
        #[derive(Debug, Merge, PartialEq)]
        struct $name {
            $(
                #[merge($rule)]
                $field: $ty,
            )*
        }
    };
}

part! {
    Counted {
        hits: u32, sum;
        best: u32, max;
    }
}

/// Merges what both requests make of what they changed.
fn conflict<T: Merge>(base: T, ours: T, theirs: T) -> Option<T> {
    let occasion = Occasion::Conflict;
    T::merge(Sides::new(Some(base), Some(ours), Some(theirs), occasion))
}

/// What a derived struct says of itself.
struct Facts {
    ttl: Option<Duration>,
    absolute: Option<Duration>,
    reading_counts: bool,
}

fn facts<S: Schema>() -> Facts {
    Facts {
        ttl: S::LIFETIME.ttl,
        absolute: S::LIFETIME.absolute,
        reading_counts: S::READING_COUNTS,
    }
}

#[test]
fn lifetimes_are_those_of_the_attribute() {
    let facts = facts::<Everything>();
    assert_eq!(facts.ttl, Some(Duration::from_secs(2 * 60 * 60)));
    assert_eq!(facts.absolute, Some(Duration::from_secs(30 * 24 * 60 * 60)));
    assert_eq!(self::facts::<Nothing>().ttl, None);
    assert_eq!(self::facts::<Nothing>().absolute, None);
}

#[test]
fn reading_counts_if_a_field_is_extended_by_it_and_a_flash_that_is_read_says_so_itself() {
    #[derive(Session)]
    struct Flashing {
        #[flash]
        _notice: String,
    }
    #[derive(Session)]
    struct Sliding {
        #[expire("1h", sliding)]
        _draft: String,
    }
    #[derive(Session)]
    struct Expiring {
        #[expire("1h")]
        _checkout: String,
    }
    assert!(!facts::<Flashing>().reading_counts);
    assert!(facts::<Sliding>().reading_counts);
    assert!(!facts::<Expiring>().reading_counts);
    assert!(!facts::<Nothing>().reading_counts);
}

#[tokio::test]
async fn every_field_is_stored_under_its_name_and_read_back() {
    let mut visitor = Site::in_memory().visitor();
    visitor
        .visit(async |mut session: Session<Everything>| {
            session.assign(Everything {
                currency: Some("EUR".to_owned()),
                language: Some("de".to_owned()),
                viewed: vec![1, 2],
                tags: BTreeSet::from(["new".to_owned()]),
                cart: BTreeMap::from([("apple".to_owned(), 2)]),
                best: 9,
                least: Some(1),
                settings: BTreeMap::new(),
                lines: vec![],
                left: json!(1),
                right: json!([2]),
                storage: json!({"three": 3}),
                retainment: Value::Null,
                order: Some(7),
                query: "pears".to_owned(),
                checkout: Some("paying".to_owned()),
                draft: Some("Dear".to_owned()),
                notice: Some("hello".to_owned()),
                error: None,
                page_size: 50,
                ratings: BTreeMap::from([("apple".to_owned(), 5)]),
                since: SystemTime::UNIX_EPOCH,
                pages: 3,
                notices: vec!["one".to_owned()],
                token: Some("secret".to_owned()),
                tries: 2,
            });
        })
        .await;
    let reply = visitor.visit(everything).await;
    assert_eq!(
        reply.body,
        r#"EUR de [1, 2] {"new"} {"apple": 2} 9 1 {} 7 pears paying Dear hello  50 {"apple": 5} 3 ["one"] secret 2"#
    );
}

async fn everything(session: Session<Everything>) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!(
        "{} {} {:?} {:?} {:?} {} {} {:?} {} {} {} {} {} {} {} {:?} {} {:?} {} {}",
        text(session.currency.get()),
        text(session.language.get()),
        session.viewed.get(),
        session.tags.get(),
        session.cart.get(),
        session.best.get(),
        session.least.get().unwrap_or_default(),
        session.settings.get(),
        session.order.get().unwrap_or_default(),
        session.query.get(),
        text(session.checkout.get()),
        text(session.draft.get()),
        text(session.notice.get()),
        text(session.error.get()),
        session.page_size.get(),
        session.ratings.get(),
        session.pages.get(),
        session.notices.get(),
        text(session.token.get()),
        session.tries.get(),
    )
}

#[tokio::test]
async fn an_absent_field_is_its_default() {
    let mut guest = Site::in_memory().visitor();
    let reply = guest
        .visit(async |session: Session<Everything>| session.page_size.get().to_string())
        .await;
    assert_eq!(reply.body, "20");
}

trait Pair<A, B> {
    const BYTES: usize = size_of::<(A, B)>();
}

impl Pair<u8, u8> for u8 {}

#[tokio::test]
async fn a_default_is_any_expression_up_to_its_comma() {
    #[derive(Session)]
    struct Sizes {
        #[session(default = 1 + <u8 as Pair<u8, u8>>::BYTES, alias = "small")]
        path: usize,
        #[session(default = i32::from(1 < 2) + 1, alias = "more")]
        compared: i32,
        #[session(default = 1 << 4, alias = "most")]
        shifted: u32,
    }

    let read = async |session: Session<Sizes>| {
        let (path, compared) = (session.path.get(), session.compared.get());
        format!("{path} {compared} {}", session.shifted.get())
    };
    let reply = Site::in_memory().visitor().visit(read).await;
    assert_eq!(reply.body, "3 2 16");
}

#[tokio::test]
async fn the_prefix_and_the_new_name_make_the_stored_name() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Everything>| {
            session.page_size.set(50);
            session.best.set(3);
        })
        .await;
    assert_eq!(
        site.payload(&visitor, "shop.page-size").await.as_deref(),
        Some("50")
    );
    assert_eq!(
        site.payload(&visitor, "shop.best").await.as_deref(),
        Some("3")
    );
}

#[tokio::test]
async fn a_field_of_the_guests_is_stored_apart_under_its_name_and_its_older_ones() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let set = async |mut session: Session<Everything>| {
        session.token.set(Some("secret".to_owned()));
        session.tries.set(2);
    };
    visitor.visit(set).await;
    for (name, payload) in [
        ("@guest/shop.token", r#""secret""#),
        ("@guest/shop.tried", "2"),
    ] {
        let stored = site.payload(&visitor, name).await;
        assert_eq!(stored.as_deref(), Some(payload), "{name}");
    }
    let read = async |session: Session<Everything>| format!("{:?}", session.token.get());
    let clear = async |mut session: Session<Everything>| session.token.clear();
    visitor.visit(clear).await;
    // As a session that somebody has planted would have it.
    site.plant(&visitor, "shop.token", r#""planted""#).await;
    assert_eq!(visitor.visit(read).await.body, "None");
    site.plant(&visitor, "@guest/shop.csrf", r#""older""#).await;
    assert_eq!(visitor.visit(read).await.body, r#"Some("older")"#);
}

#[tokio::test]
async fn older_names_still_read() {
    for (older, payload) in [("shop.page", "30"), ("shop.size", "40")] {
        let site = Site::in_memory();
        let mut visitor = site.visitor();
        visitor
            .visit(async |mut session: Session<Everything>| session.best.set(3))
            .await;
        site.plant(&visitor, older, payload).await;
        let read = async |session: Session<Everything>| session.page_size.get().to_string();
        assert_eq!(visitor.visit(read).await.body, payload);
    }
}

#[tokio::test]
async fn a_value_of_the_older_type_is_upgraded() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Everything>| session.best.set(3))
        .await;
    site.plant(&visitor, "shop.ratings", r#"["apple"]"#).await;
    let read = async |session: Session<Everything>| format!("{:?}", session.ratings.get());
    assert_eq!(visitor.visit(read).await.body, r#"{"apple": 1}"#);
}

#[tokio::test]
async fn fields_can_be_called_anything() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Names>| {
            session.r#type.set("visitor".to_owned());
            session.request.set(1);
            session.borrowed.set(2);
            session.straße.set(3);
            let NamesSession {
                r#struct,
                __session,
                session,
                cells,
                slots,
                visit,
                set,
                get,
                id,
                user,
                ..
            } = session.fields();
            for (cell, value) in [
                r#struct, __session, session, cells, slots, visit, set, get, id, user,
            ]
            .into_iter()
            .zip(4..)
            {
                cell.set(value);
            }
        })
        .await;
    assert_eq!(
        site.payload(&visitor, "type").await.as_deref(),
        Some(r#""visitor""#)
    );
    assert_eq!(site.payload(&visitor, "struct").await.as_deref(), Some("4"));
    assert_eq!(site.payload(&visitor, "user").await.as_deref(), Some("13"));
    assert_eq!(site.payload(&visitor, "straße").await.as_deref(), Some("3"));
    let read = async |session: Session<Names>| {
        format!(
            "{} {} {} {}",
            session.r#type.get(),
            session.request.get(),
            session.borrowed.get(),
            session.get.get()
        )
    };
    assert_eq!(visitor.visit(read).await.body, "visitor 1 2 11");
}

#[tokio::test]
async fn names_in_scope_do_not_matter() {
    use shadowed::Shadowed;

    let site = Site::in_memory();
    let mut visitor = site.visitor();
    visitor
        .visit(async |mut session: Session<Shadowed>| {
            session.assign(Shadowed {
                visits: 1,
                notice: "hello".to_owned(),
                number: 2,
                order: 3,
            });
        })
        .await;
    let read = async |session: Session<Shadowed>| {
        format!(
            "{} {} {} {}",
            session.visits.get(),
            session.notice.get(),
            session.number.get(),
            session.order.get()
        )
    };
    assert_eq!(visitor.visit(read).await.body, "1 hello 2 3");
}

#[test]
fn parts_can_be_called_anything() {
    let packing = |r#type, base, ours| Packing {
        r#type,
        base,
        ours,
        ..Packing::default()
    };
    let merged = conflict(packing(1, 1, 1), packing(2, 2, 1), packing(3, 1, 3));
    assert_eq!(merged, Some(packing(3, 2, 3)));
    assert_eq!(conflict(Empty {}, Empty {}, Empty {}), Some(Empty {}));
    let tree = |branches| Tree { branches };
    let pair = || vec![tree(vec![]), tree(vec![])];
    let merged = conflict(tree(vec![]), tree(vec![tree(vec![])]), tree(pair()));
    assert!(merged == Some(tree(pair())));
    let counted = |hits, best| Counted { hits, best };
    let merged = conflict(counted(1, 1), counted(2, 2), counted(3, 3));
    assert_eq!(merged, Some(counted(4, 3)));
}

#[test]
fn names_in_scope_do_not_matter_to_parts() {
    use shadowed::Part;

    let part = |visits, number, plain| Part {
        visits,
        number,
        plain,
        parts: vec![],
    };
    let merged = conflict(part(1, 1, 1), part(2, 2, 2), part(3, 3, 1));
    assert!(merged == Some(part(4, 3, 2)));
}

#[test]
fn parts_merge_by_their_rules() {
    let line = |quantity, weight, engraving: &str| {
        #[allow(deprecated)]
        let product = Product {
            sku: "ring".to_owned(),
            weight,
        };
        Line {
            product,
            price: Some(quantity),
            color: None,
            notes: vec![engraving.to_owned()],
            tags: BTreeSet::from([engraving.to_owned()]),
            quantity,
            changed: quantity.into(),
            added: quantity.into(),
            packing: Packing::default(),
            parts: vec![],
            extras: json!({"a": quantity}),
            engraving: engraving.to_owned(),
        }
    };
    let merged = conflict(line(5, 1.0, "a"), line(6, 2.0, "bc"), line(7, 1.0, "d"));
    let expected = Line {
        price: Some(6),
        notes: ["a", "d", "bc"].map(str::to_owned).to_vec(),
        tags: ["bc", "d"].map(str::to_owned).into(),
        quantity: 8,
        changed: 7,
        added: 6,
        extras: json!({"a": 6}),
        ..line(0, 2.0, "bc")
    };
    assert_eq!(merged, Some(expected));
}

#[tokio::test]
async fn a_macro_can_write_a_schema() {
    let read = async |session: Session<Written>| {
        format!("{:?} {}", session.cart.get(), session.best.get())
    };
    let mut guest = Site::in_memory().visitor();
    assert_eq!(guest.visit(read).await.body, r#"{"apple": 1} 3"#);
    assert_eq!(facts::<Written>().ttl, Some(Duration::from_secs(61 * 60)));
}

#[tokio::test]
async fn a_struct_can_be_called_session() {
    let mut visitor = Site::in_memory().visitor();
    for number in ["1", "2"] {
        assert_eq!(visitor.visit(called_session::visit).await.body, number);
    }
}

#[tokio::test]
async fn a_schema_without_fields_reads_nothing() {
    let mut guest = Site::in_memory().visitor();
    let reply = guest
        .visit(async |session: Session<Nothing>| format!("{session:?}"))
        .await;
    assert_eq!(reply.body, "Session { .. }");
}

#[tokio::test]
async fn two_schemas_share_a_session() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let both = async |mut shop: Session<Everything>, visitor: Session<public::Visitor>| {
        shop.best.set(*visitor.visits.get() + 1);
        visitor.referrer.get().clone().unwrap_or_default()
    };
    visitor.visit(both).await;
    assert_eq!(visitor.visit(public::seen).await.body, "1 1");
    assert_eq!(
        site.payload(&visitor, "visitor.seen").await.as_deref(),
        Some("1")
    );
    assert_eq!(
        site.payload(&visitor, "shop.best").await.as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn a_field_and_a_flash_are_set_to_what_their_type_is_made_of() {
    #[derive(Session)]
    struct Profile {
        name: Option<String>,
        theme: String,
        size: Option<u32>,
        pages: Vec<u32>,
        #[flash]
        notice: Option<String>,
    }
    let mut visitor = Site::in_memory().visitor();
    let sets: [fn(&mut ProfileSession); 5] = [
        |s| {
            s.name.set("x");
            s.notice.set("x");
        },
        |s| {
            s.name.set(&"x".to_owned());
            s.notice.now(&"x".to_owned());
        },
        |s| {
            s.name.set("x".to_owned());
            s.notice.set("x".to_owned());
        },
        |s| {
            s.name.set(Some("x".into()));
            s.notice.now(Some("x".into()));
        },
        |s| {
            s.name.set(None);
            s.notice.set(None);
        },
    ];
    for (number, set) in sets.into_iter().enumerate() {
        let told = visitor.visit(async move |mut session: Session<Profile>| {
            set(session.fields());
            format!("{:?} {:?}", session.name.get(), session.notice.get())
        });
        let shown = ["Some(\"x\")", "None"][number / 4];
        assert_eq!(told.await.body, format!("{shown} {shown}"));
    }
    // The compiler finds the value's type by the field's.
    let infers = async |mut session: Session<Profile>| {
        session.size.set(7);
        session.size.set(Some("9".parse()?));
        session
            .pages
            .set("1 2".split(' ').flat_map(str::parse).collect());
        session.theme.set("dark");
        let user = format!("{:?}", session.user());
        session.name.set(user);
        let shown = (session.size.get(), session.pages.get());
        let (theme, name) = (session.theme.get(), session.name.get());
        Ok::<_, ParseError>(format!("{shown:?} {theme} {name:?}"))
    };
    let shown = visitor.visit(infers).await.body;
    assert_eq!(shown, r#"(Some(9), [1, 2]) dark Some("None")"#);
}

/// Some text is no number.
struct ParseError;

impl From<std::num::ParseIntError> for ParseError {
    fn from(_: std::num::ParseIntError) -> Self {
        Self
    }
}

impl axum::response::IntoResponse for ParseError {
    fn into_response(self) -> axum::response::Response {
        http::StatusCode::BAD_REQUEST.into_response()
    }
}
