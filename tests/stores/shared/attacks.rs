//! Ids that nobody has been given, floods of requests, and a store that has been stolen.

use axum::Router;
use axum::body::Body;
use http::Request;
use http::header::COOKIE;
use rand::RngExt;
use session_runtime::{Session, SessionId};
use session_tests::{Browser, Traffic, Visitor};
use tokio::task::JoinSet;

use crate::on_each_server;
use crate::stand::{Server, Shop, Stand, add_one, bytes, hex, read};

// ---- forged ids

const FORGED: usize = 2_000;
const UNISSUED: usize = 200;

/// Texts that are no ids, made of one that is, of its key, or of a user's name.
fn forgeries(id: &str, key: &str) -> Vec<String> {
    let (tag, hash) = key.split_once('}').expect("a session's key");
    let mut forged: Vec<String> = [
        "",
        "x",
        "ada",
        "user:ada",
        "user:{ada}",
        "user:{ada}user:{ada}user:{ada}user:{ada}",
        "owned:{ada}",
        "session:",
        "0",
        "null",
        "../../../../../../../../../../etc/passwd",
        "' OR '1'='1' --                          ",
        "*",
        "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}",
        key,
        hash,
        tag,
    ]
    .map(str::to_owned)
    .into();
    forged.extend([
        id.to_uppercase(),
        format!("{id}0"),
        format!("0{id}"),
        format!("{id}{id}"),
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
    let spoilt = (0..FORGED).map(|_| spoilt(&id));
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
    let customer = stand.customer().await;
    let (id, key) = (customer.id(), customer.key().to_string());
    let (_, hash) = key.split_once('}').expect("a session's key");
    // As an attacker would who has seen the store: parts of the hash, and the tag with anything behind it.
    let guessed = [
        &hash[..40],
        &hash[24..],
        &format!("{}{}", &id[..4], &hash[..36]),
    ];
    let guessed = guessed.map(str::to_owned).into_iter();
    let random = (0..UNISSUED).map(|_| SessionId::generate().expect("random bytes"));
    let random = random.map(|id| id.expose().to_owned());
    for presented in guessed.chain(random) {
        let mut forger = stand.site.visitor().presenting(&presented);
        assert_eq!(forger.visit(read).await.body, "0");
        assert_eq!(stand.site.store.round_trips(), (1, 0));
        assert_eq!(forger.visit(add_one).await.set_cookies().len(), 1);
        assert_ne!(forger.id(), presented);
        let adopted = stand.site.visitor().presenting(&presented);
        assert!(stand.record(&adopted).await.is_none());
        stand.site.store.round_trips();
    }
}

// ---- floods

/// Requests without a cookie, and with one that the store has never heard of.
const BARE: usize = 96_000;
const UNKNOWN: usize = 4_000;

/// So many at a time.
const AT_ONCE: usize = 50;

/// Sends a flood of requests, each with the cookie that `cookie` makes.
async fn flood<S: Server>(stand: &Stand<S>, requests: usize, cookie: fn() -> Option<String>) {
    let borrow = async |mut session: Session<Shop>| session.points.get_mut().to_string();
    let app = Router::new()
        .fallback(borrow)
        .layer(stand.site.layer.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut client = Browser::new(app.clone());
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
    let nothing = stand.server.dump(&stand.name).await;
    flood(&stand, BARE, || None).await;
    assert_eq!(stand.site.store.round_trips(), (0, 0));
    let unknown = || {
        let id = SessionId::generate().expect("random bytes");
        Some(format!("__Host-id={}", id.expose()))
    };
    flood(&stand, UNKNOWN, unknown).await;
    assert_eq!(stand.site.store.round_trips(), (UNKNOWN, 0));
    assert_eq!(stand.server.dump(&stand.name).await, nothing);
}

// ---- theft

/// What somebody finds who has the store: whatever sessions went through in their lives, no id of theirs.
async fn a_stolen_store_holds_no_id<S: Server>(stand: Stand<S>) {
    let write = async |mut session: Session<Shop>| session.text.set("canary".to_owned());
    let rotate = async |mut session: Session<Shop>| session.rotate().await;
    let login = async |mut session: Session<Shop>| session.login("ada").await;
    let logout = async |mut session: Session<Shop>| session.logout().await;
    let delete = async |mut session: Session<Shop>| session.delete("done").await;
    let mut issued: Vec<Visitor> = Vec::new();
    for last in 0..7 {
        let mut visitor = stand.customer().await;
        for step in 0..=last {
            match step {
                0 => visitor.visit(write).await,
                1 | 4 => visitor.visit(rotate).await,
                2 => visitor.visit(login).await,
                3 => visitor.visit(add_one).await,
                5 => visitor.visit(logout).await,
                _ => visitor.visit(delete).await,
            };
            if visitor.browser.id().is_some() {
                issued.push(visitor.clone());
            }
        }
    }
    let dump = stand.server.dump(&stand.name).await;
    // What is no text shows by its digits: with a mark for each byte that is none, it would look like anything else.
    let holds = |bytes: &[u8]| {
        let text = str::from_utf8(bytes);
        text.is_ok_and(|text| dump.contains(text)) || dump.contains(&hex(bytes))
    };
    assert!(
        holds(b"canary") && holds(b"ada"),
        "it is looked for in the right place:\n{dump}"
    );
    for visitor in &issued {
        let (id, key) = (visitor.id(), visitor.key().to_string());
        assert!(holds(key.as_bytes()), "its key is there");
        // As text or as bytes, whole or in part; but for the tag, which is there in clear.
        for part in id.as_bytes()[4..]
            .windows(20)
            .chain(bytes(&id)[2..].windows(10))
        {
            assert!(!holds(part), "half of an id is there");
        }
    }
}

on_each_server! {
    what_is_no_id_is_never_looked_up,
    an_id_that_was_never_issued_is_not_adopted,
    a_flood_leaves_nothing_in_the_store_and_costs_a_load_each_at_most,
    a_stolen_store_holds_no_id,
}
