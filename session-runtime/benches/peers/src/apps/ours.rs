//! The routes over this library.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::RawQuery;
use axum::routing::get;
use seq_macro::seq;
use session_runtime::store::Store;
use session_runtime::{Error, Schema, Session, SessionLayer};

use super::routes::{number, text};

/// A shop's session: 22 fields.
#[derive(Session)]
struct Shop {
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    e: String,
    f: String,
    g: String,
    h: String,
    i: Vec<u32>,
    j: Vec<u32>,
    k: Option<u32>,
    l: Option<u32>,
    m: Option<String>,
    n: Option<String>,
    o: u64,
    p: u64,
    q: bool,
    r: bool,
    large: String,
    #[merge(sum)]
    cart: BTreeMap<String, u32>,
    #[flash]
    notice: Option<String>,
    count: u32,
}

/// A session of so many fields.
trait Wide: Schema {
    /// Adds one to the first `count` fields, and returns the last of these.
    fn change(session: &mut Session<Self>, count: usize) -> u32;
}

macro_rules! wide {
    ($name:ident, $fields:literal) => {
        seq!(N in 0..$fields {
            #[derive(Session)]
            struct $name {
                #(f~N: u32,)*
            }

            impl Wide for $name {
                fn change(session: &mut Session<Self>, count: usize) -> u32 {
                    let mut last = 0;
                    let cells = session.fields();
                    #(
                        if N < count {
                            let field = cells.f~N.get_mut();
                            *field += 1;
                            last = *field;
                        }
                    )*
                    last
                }
            }
        });
    };
}

wide!(Wide1, 1);
wide!(Wide10, 10);
wide!(Wide50, 50);
wide!(Wide100, 100);
wide!(Wide200, 200);

pub(super) fn app(store: impl Store) -> Router {
    let layer = SessionLayer::new(store)
        .max_field(2 << 20)
        .max_record(4 << 20);
    Router::new()
        .route("/untouched", get(async || "ok"))
        .route("/read", get(read))
        .route("/change", get(change))
        .route("/create", get(change))
        .route("/fill", get(fill))
        .route("/large", get(large))
        .route("/notify", get(notify))
        .route("/notice", get(notice))
        .route("/add", get(add))
        .route("/cart", get(cart))
        .route("/login", get(login))
        .route("/logout", get(logout))
        .route("/wide1", get(wide::<Wide1>))
        .route("/wide10", get(wide::<Wide10>))
        .route("/wide50", get(wide::<Wide50>))
        .route("/wide100", get(wide::<Wide100>))
        .route("/wide200", get(wide::<Wide200>))
        .layer(layer)
        .with_state(())
}

async fn read(session: Session<Shop>) -> String {
    session.count.get().to_string()
}

async fn change(mut session: Session<Shop>) -> String {
    let count = session.count.get_mut();
    *count += 1;
    count.to_string()
}

async fn fill(RawQuery(query): RawQuery, mut session: Session<Shop>) -> &'static str {
    let some = || "some text".to_owned();
    session.assign(Shop {
        a: 1,
        b: 2,
        c: 3,
        d: 4,
        e: some(),
        f: some(),
        g: some(),
        h: some(),
        i: vec![1, 2, 3],
        j: vec![4, 5, 6],
        k: Some(1),
        l: None,
        m: Some(some()),
        n: None,
        o: 5,
        p: 6,
        q: true,
        r: false,
        large: text(number(query)),
        cart: BTreeMap::from([("apple".to_owned(), 1)]),
        notice: None,
        count: 7,
    });
    "ok"
}

async fn large(RawQuery(query): RawQuery, mut session: Session<Shop>) -> &'static str {
    session.large.set(text(number(query)));
    "ok"
}

async fn notify(mut session: Session<Shop>) -> &'static str {
    session.notice.set("Saved.".to_owned());
    "ok"
}

async fn notice(session: Session<Shop>) -> String {
    session.notice.get().clone().unwrap_or_default()
}

async fn add(mut session: Session<Shop>) -> &'static str {
    *session.cart.get_mut().entry("pear".to_owned()).or_default() += 1;
    "ok"
}

async fn cart(session: Session<Shop>) -> String {
    let pears = session.cart.get().get("pear").copied();
    pears.unwrap_or_default().to_string()
}

async fn login(
    RawQuery(query): RawQuery,
    mut session: Session<Shop>,
) -> Result<&'static str, Error> {
    session.login(number(query)).await?;
    Ok("ok")
}

async fn logout(mut session: Session<Shop>) -> Result<&'static str, Error> {
    session.logout().await?;
    Ok("ok")
}

async fn wide<W: Wide>(RawQuery(query): RawQuery, mut session: Session<W>) -> String {
    W::change(&mut session, number(query)).to_string()
}
