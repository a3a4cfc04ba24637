//! Ids that nobody has been given, floods of requests, and a store that has been stolen.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use http::header::COOKIE;
use http::{Request, StatusCode};
use rand::RngExt;
use session_runtime::store::SqliteStore;
use session_runtime::{Session, SessionId};
use session_tests::{Browser, Site, Traffic, Visitor, times};
use tokio::task::JoinSet;

use super::on_each_server;
use super::stand::{Server, Shop, Stand, add_one, bytes, hex, read};

// ---- forged ids

/// Or [`times`] as many.
const FORGED: usize = 2_000;
const UNISSUED: usize = 200;

/// The digits of an id that select its record; those of its secret follow.
const SELECTOR: usize = 16;

/// Texts that are no ids, made of one that is, of its key, or of a user's name.
fn forgeries(id: &str, key: &str) -> Vec<String> {
    let (selector, secret) = id.split_at(SELECTOR);
    let mut forged: Vec<String> = [
        "",
        "x",
        "ada",
        "user:ada",
        "user:adauser:adauser:adauser:adauser:adauser:ada",
        "session:",
        "0",
        "null",
        "../../../../../../../../../../../../../etc/hosts",
        "' OR '1'='1' --                                 ",
        "*",
        key,
        selector,
        secret,
    ]
    .map(str::to_owned)
    .into();
    forged.extend([
        id.to_uppercase(),
        format!("{id}0"),
        format!("0{id}"),
        format!("{id}{id}"),
        format!("{key}{key}"),
        "\u{fc}".repeat(id.len() / 2),
        id[1..].to_owned(),
        format!("0x{}", &id[2..]),
        id.repeat(1_000),
    ]);
    forged
}

/// The id with one character in place of another, or one less or more: no id whatever comes of it.
fn spoilt(id: &str) -> String {
    const OTHERS: &[u8] = b"ghijklmnopqrstuvwxyzABCDEFXYZ!#$%&'()*+-./:<=>?@[]^_`{|}~";
    let mut random = rand::rng();
    let mut text = id.as_bytes().to_vec();
    let at = random.random_range(0..text.len());
    let other = OTHERS[random.random_range(0..OTHERS.len())];
    match random.random_range(0..3) {
        0 => text[at] = other,
        1 => drop(text.remove(at)),
        _ => text.insert(at, b'0'),
    }
    String::from_utf8(text).expect("text")
}

fn presenting(id: &str) -> Request<Body> {
    let cookie = format!("__Host-id={id}").into_bytes();
    let request = Request::builder().header(COOKIE, cookie);
    request.body(Body::empty()).expect("a request")
}

async fn what_is_no_id_is_never_looked_up<S: Server>(stand: Stand<S>) {
    let mut customer = stand.customer().await;
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    customer.visit(login).await;
    let (id, key) = (customer.id(), customer.key().to_string());
    stand.site.store.round_trips();
    stand.proxy.traffic();
    let spoilt = (0..FORGED * times()).map(|_| spoilt(&id));
    for forged in forgeries(&id, &key).into_iter().chain(spoilt) {
        let mut forger = stand.site.visitor();
        let reply = forger.send(presenting(&forged), read).await;
        assert_eq!(reply.body, "0", "{forged:?}");
        assert_eq!(forger.browser.id(), None, "{forged:?}");
    }
    assert_eq!(stand.site.store.round_trips(), (0, 0));
    assert_eq!(stand.proxy.traffic(), Traffic::default());
}

async fn an_id_that_was_never_issued_is_not_adopted<S: Server>(stand: Stand<S>) {
    let stand = stand.patient();
    for _ in 0..UNISSUED * times() {
        let id = SessionId::generate().expect("random bytes");
        let mut forger = stand.site.visitor().presenting(id.expose());
        assert_eq!(forger.visit(read).await.body, "0");
        assert_eq!(stand.site.store.round_trips(), (1, 0));
        assert_eq!(forger.visit(add_one).await.set_cookies().len(), 1);
        assert_ne!(forger.id(), id.expose());
        let adopted = stand.site.visitor().presenting(id.expose());
        assert!(stand.record(&adopted).await.is_none());
        stand.site.store.round_trips();
    }
}

/// Whoever has seen the store knows the selector, and a hash of the secret. That opens nothing, nor does anything else
/// that is in the record.
async fn a_known_selector_opens_nothing_with_another_secret<S: Server>(stand: Stand<S>) {
    let mut customer = stand.customer().await;
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    customer.visit(login).await;
    let id = customer.id();
    let (selector, secret) = id.split_at(SELECTOR);
    let before = stand.record(&customer).await.expect("there is a session");
    let stored = before.to_bytes();
    let secrets = stored.windows(secret.len() / 2).map(hex);
    let nearly = (0..secret.len()).map(|at| {
        let mut secret = secret.to_owned();
        let other = if &secret[at..=at] == "0" { "1" } else { "0" };
        secret.replace_range(at..=at, other);
        secret
    });
    let random = (0..UNISSUED).map(|_| {
        let id = SessionId::generate().expect("random bytes");
        id.expose()[SELECTOR..].to_owned()
    });
    stand.site.store.round_trips();
    for guessed in secrets.chain(nearly).chain(random) {
        let mut forger = stand
            .site
            .visitor()
            .presenting(&format!("{selector}{guessed}"));
        let shown = async |session: Session<Shop>| {
            let (points, user) = (*session.points.get(), session.user().is_some());
            format!("{points} {user} {:?}", session.ended())
        };
        assert_eq!(forger.visit(shown).await.body, "0 false Some(Expired)");
        assert_eq!(stand.site.store.round_trips(), (1, 0));
        assert_eq!(forger.visit(add_one).await.set_cookies().len(), 1);
        assert_ne!(&forger.id()[..SELECTOR], selector);
        stand.site.store.round_trips();
    }
    assert_eq!(stand.record(&customer).await, Some(before));
    assert_eq!(customer.visit(read).await.body, "10");
}

// ---- floods

/// Requests without a cookie, with one that the store has never heard of, and with a wrong secret for a session.
const BARE: usize = 92_000;
const UNKNOWN: usize = 4_000;
const WRONG: usize = 4_000;

/// So many at a time.
const AT_ONCE: usize = 50;

/// Sends a flood of requests, each with the cookie that `cookie` makes.
async fn flood<S: Server>(
    stand: &Stand<S>,
    requests: usize,
    cookie: impl Fn() -> Option<String> + Clone + Send + 'static,
) {
    let borrow = async |mut session: Session<Shop>| session.points.get_mut().to_string();
    let app = Router::new()
        .fallback(borrow)
        .layer(stand.site.layer.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (mut client, cookie) = (Browser::new(app.clone()), cookie.clone());
        tasks.spawn(async move {
            for _ in 0..requests / AT_ONCE {
                client.cookies.clear();
                client.cookies.extend(cookie());
                let reply = client.get("/").await;
                assert_eq!(reply.body, "0");
                assert!(reply.set_cookies().is_empty());
            }
        });
    }
    tasks.join_all().await;
}

async fn a_flood_leaves_nothing_in_the_store_and_costs_a_load_each_at_most<S: Server>(
    stand: Stand<S>,
) {
    let stand = stand.patient();
    let mut customer = stand.customer().await;
    let before = stand.server.dump(&stand.name).await;
    flood(&stand, BARE, || None).await;
    assert_eq!(stand.site.store.round_trips(), (0, 0));
    let any = || SessionId::generate().expect("random bytes");
    let unknown = move || Some(format!("__Host-id={}", any().expose()));
    flood(&stand, UNKNOWN, unknown).await;
    assert_eq!(stand.site.store.round_trips(), (UNKNOWN, 0));
    let selector = customer.id()[..SELECTOR].to_owned();
    let wrong = move || {
        Some(format!(
            "__Host-id={selector}{}",
            &any().expose()[SELECTOR..]
        ))
    };
    flood(&stand, WRONG, wrong).await;
    assert_eq!(stand.site.store.round_trips(), (WRONG, 0));
    assert_eq!(stand.server.dump(&stand.name).await, before);
    assert_eq!(customer.visit(read).await.body, "10");
}

// ---- theft

/// Leads sessions through all that a session may go through, each farther than the last. Returns whoever has had an id,
/// with that id.
async fn live(visitors: impl IntoIterator<Item = Visitor>) -> Vec<Visitor> {
    let write = async |mut session: Session<Shop>| {
        session.text.set("canary".to_owned());
        *session.points.get_mut() += 1;
    };
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let logout = async |mut session: Session<Shop>| session.logout().await;
    let delete = async |mut session: Session<Shop>| session.delete("done").await;
    let mut issued: Vec<Visitor> = Vec::new();
    for (last, mut visitor) in visitors.into_iter().enumerate() {
        for step in 0..=last {
            let reply = match step {
                0 => visitor.visit(write).await,
                1 | 5 => visitor.visit(rotate).await,
                2 | 4 => visitor.visit(login).await,
                3 => visitor.visit(add_one).await,
                _ if last == 6 => visitor.visit(logout).await,
                _ => visitor.visit(delete).await,
            };
            assert_eq!(reply.status, StatusCode::OK, "{step} of {last}");
            if visitor.browser.id().is_some() {
                issued.push(visitor.clone());
            }
        }
    }
    issued
}

/// Checks that of no id the secret is in what was stolen: not as text and not as bytes, whole or in part.
fn check_loot(issued: &[Visitor], holds: impl Fn(&[u8]) -> bool) {
    assert!(
        holds(b"canary") && holds(b"ada"),
        "it is looked for in the right place"
    );
    let ids = issued
        .iter()
        .map(|visitor| (visitor.id(), visitor.key().to_string()));
    let ids: BTreeMap<_, _> = ids.collect();
    assert!(ids.len() > LIVES, "{}", ids.len());
    for (id, key) in ids {
        assert!(holds(key.as_bytes()), "its key is there");
        let secret = &id[SELECTOR..];
        let digits = secret.as_bytes().windows(secret.len() / 2);
        let secret = bytes(secret);
        for part in digits.chain(secret.windows(secret.len() / 2)) {
            assert!(!holds(part), "half of a secret is there");
        }
    }
}

/// How many sessions are led through their lives.
const LIVES: usize = 8;

/// Shows what somebody finds who has the store: whatever sessions went through in their lives, no secret of theirs.
async fn a_stolen_store_holds_no_secret_of_an_id<S: Server>(stand: Stand<S>) {
    let stand = stand.patient();
    let mut customers = Vec::new();
    for _ in 0..LIVES {
        customers.push(stand.customer().await);
    }
    let issued = live(customers).await;
    let dump = stand.server.dump(&stand.name).await;
    // What is no text shows by its digits: with a mark for each byte that is none, it would look like anything else.
    check_loot(&issued, |bytes| {
        let text = str::from_utf8(bytes);
        text.is_ok_and(|text| dump.contains(text)) || dump.contains(&hex(bytes))
    });
}

/// A character for each byte: text is searched faster.
fn in_characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[tokio::test]
async fn a_stolen_file_holds_no_secret_of_an_id() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let open = |clock| {
        let file = folder.path().join("db");
        SqliteStore::options().clock(clock).open(file)
    };
    let site = Site::new(|clock| open(clock).expect("a fresh file"));
    let issued = live((0..LIVES).map(|_| site.visitor())).await;
    // With what is beside the file, and with all that is no more and was not overwritten yet.
    let mut loot = String::new();
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let file = std::fs::read(file.expect("a file").path()).expect("a file");
        loot.push_str(&in_characters(&file));
    }
    check_loot(&issued, |bytes| loot.contains(&in_characters(bytes)));
}

on_each_server! {
    what_is_no_id_is_never_looked_up,
    an_id_that_was_never_issued_is_not_adopted,
    a_known_selector_opens_nothing_with_another_secret,
    a_flood_leaves_nothing_in_the_store_and_costs_a_load_each_at_most,
    a_stolen_store_holds_no_secret_of_an_id,
}
