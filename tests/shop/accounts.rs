//! The example shop's accounts, over real HTTP: passwords, carts that become one, devices, and `kill -9` amid logins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::RETRY_AFTER;
use session_runtime::store::{SqliteStore, Store};
use session_runtime::{Ended, Key, SessionId};
use session_tests::{Guest, PATIENCE, Page, Shop, TempDir};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const PASSWORD: &str = "grey+herons+wade";

const ADDRESS: &str = "name=Ada&street=1+Quay&postcode=1&town=Cork&country=Ireland";

fn store(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("shop.db").display())
}

fn credentials(name: &str, password: &str) -> String {
    format!("name={name}&password={password}&back=/cart")
}

async fn register(shop: &Shop, guest: &Guest, name: &str) {
    let form = credentials(name, PASSWORD);
    let page = guest.post(shop, "/register", &form).await.unwrap();
    assert_eq!(page.location.as_deref(), Some("/cart"), "{}", page.body);
}

async fn sign_in(shop: &Shop, guest: &Guest, name: &str) {
    let page = try_to_sign_in(shop, guest, name, PASSWORD).await;
    assert_eq!(page.location.as_deref(), Some("/cart"), "{}", page.body);
}

async fn try_to_sign_in(shop: &Shop, guest: &Guest, name: &str, password: &str) -> Page {
    let form = credentials(name, password);
    guest.post(shop, "/sign-in", &form).await.unwrap()
}

/// Somebody new, with an account of that name.
async fn customer(shop: &Shop, name: &str) -> Guest {
    let guest = Guest::new();
    register(shop, &guest, name).await;
    guest
}

async fn add(shop: &Shop, guest: &Guest, sku: &str, quantity: u32) {
    let form = format!("sku={sku}&quantity={quantity}");
    let page = guest.post(shop, "/cart/add", &form).await.unwrap();
    assert_eq!(page.status, StatusCode::SEE_OTHER);
}

async fn quantity(shop: &Shop, guest: &Guest, sku: &str) -> u32 {
    let cart = guest.get(shop, "/cart").await.unwrap();
    assert_eq!(cart.status, StatusCode::OK);
    cart.quantity(sku)
}

/// The text of the page's notice.
fn notice(page: &Page) -> Option<&str> {
    let (_, after) = page.body.split_once("id=\"notice\"")?;
    let (_, text) = after.split_once("<p>")?;
    text.split_once("</p>").map(|(text, _)| text)
}

#[tokio::test]
async fn a_guests_cart_comes_along_and_two_carts_become_one() {
    let shop = Shop::open("memory");
    let [desk, phone] = [Guest::new(), Guest::new()];
    add(&shop, &desk, "tide-mug", 2).await;
    register(&shop, &desk, "Ada").await;
    assert_eq!(quantity(&shop, &desk, "tide-mug").await, 2);

    add(&shop, &phone, "tide-mug", 1).await;
    add(&shop, &phone, "mudflat-bowl", 1).await;
    sign_in(&shop, &phone, "ADA").await;
    let cart = phone.get(&shop, "/cart").await.unwrap();
    assert!(notice(&cart).unwrap().ends_with("two carts are one now."));
    for guest in [&phone, &desk] {
        assert_eq!(quantity(&shop, guest, "tide-mug").await, 3);
        assert_eq!(quantity(&shop, guest, "mudflat-bowl").await, 1);
    }
    add(&shop, &desk, "tide-mug", 1).await;
    assert_eq!(quantity(&shop, &phone, "tide-mug").await, 4, "and so on");
}

#[tokio::test]
async fn what_two_carts_hold_of_one_thing_is_what_the_shop_can_pack() {
    let shop = Shop::open("memory");
    let [desk, phone] = [customer(&shop, "Ada").await, Guest::new()];
    add(&shop, &desk, "tide-mug", 60).await;
    add(&shop, &phone, "tide-mug", 60).await;
    sign_in(&shop, &phone, "Ada").await;
    let cart = phone.get(&shop, "/cart").await.unwrap();
    assert_eq!(cart.quantity("tide-mug"), 99);
    let notice = notice(&cart).unwrap();
    assert!(notice.contains("We can pack 99 of one thing"), "{notice}");
    // Two devices that go on to the checkout take nothing more out.
    let [one, other] = [&desk, &phone].map(|guest| guest.get(&shop, "/checkout"));
    let (one, other) = tokio::join!(one, other);
    assert_eq!(one.unwrap().status, StatusCode::OK);
    assert_eq!(other.unwrap().status, StatusCode::OK);
    assert_eq!(quantity(&shop, &desk, "tide-mug").await, 99);
}

#[tokio::test]
async fn a_checkout_and_a_choice_of_currency_outlast_the_login() {
    let shop = Shop::open("memory");
    let [desk, phone] = [customer(&shop, "Ada").await, Guest::new()];
    let yen = "currency=JPY&back=/";
    desk.post(&shop, "/currency", yen).await.unwrap();

    add(&shop, &phone, "tide-mug", 1).await;
    let pounds = "currency=GBP&back=/";
    phone.post(&shop, "/currency", pounds).await.unwrap();
    phone.post(&shop, "/checkout", ADDRESS).await.unwrap();
    sign_in(&shop, &phone, "Ada").await;
    let review = phone.get(&shop, "/checkout/review").await.unwrap();
    assert_eq!(review.status, StatusCode::OK);
    assert!(review.body.contains("1 Quay"), "the address is still there");
    assert!(review.body.contains("¥3,994"), "the account's currency");
    let elsewhere = desk.get(&shop, "/checkout/review").await.unwrap();
    assert_eq!(elsewhere.status, StatusCode::GONE, "and nowhere else");
}

/// Looks at the order. Its number, and whether it was placed elsewhere.
async fn order(shop: &Shop, guest: &Guest) -> (String, bool) {
    let page = guest.get(shop, "/order").await.unwrap();
    let (_, after) = page.body.split_once("id=\"order-number\">").unwrap();
    let (number, _) = after.split_once('<').unwrap();
    (number.to_owned(), notice(&page).is_some())
}

#[tokio::test]
async fn two_devices_that_order_one_cart_place_one_order() {
    const ROUNDS: usize = 1_000;

    // In memory, a request is often over before the next one begins.
    let folder = TempDir::new().unwrap();
    let shop = Shop::open(&store(&folder));
    let [desk, phone] = [customer(&shop, "Ada").await, Guest::new()];
    sign_in(&shop, &phone, "Ada").await;
    for _ in 0..ROUNDS {
        add(&shop, &desk, "tide-mug", 1).await;
        for guest in [&desk, &phone] {
            guest.post(&shop, "/checkout", ADDRESS).await.unwrap();
            guest.get(&shop, "/cart").await.unwrap();
        }
        let place = async |guest: &Guest| {
            let agreed = "total=%E2%82%AC24.50&to=Ada,+1+Quay,+1+Cork,+Ireland";
            guest.post(&shop, "/checkout/place", agreed).await.unwrap()
        };
        let (one, other) = tokio::join!(place(&desk), place(&phone));
        for placed in [one, other] {
            assert_eq!(placed.location.as_deref(), Some("/order"), "{placed:?}");
        }
        let (one, other) = (order(&shop, &desk).await, order(&shop, &phone).await);
        assert_eq!(one.0, other.0);
        assert_eq!(quantity(&shop, &desk, "tide-mug").await, 0);
        match (one.1, other.1) {
            (true, true) => panic!("nobody has placed it"),
            (false, false) => {} // the later one found the cart empty
            _ => return,
        }
    }
    panic!("they never met, or both have placed it");
}

#[tokio::test]
async fn nothing_of_a_user_is_left_for_the_next_one_at_this_browser() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::open(&store(&folder));
    let guest = customer(&shop, "Ada").await;
    add(&shop, &guest, "tide-mug", 2).await;
    guest.get(&shop, "/things/tide-mug").await.unwrap();
    guest.post(&shop, "/checkout", ADDRESS).await.unwrap();
    let cookie = guest.cookie().unwrap();
    let out = guest.post(&shop, "/sign-out", "").await.unwrap();
    assert_eq!(out.location.as_deref(), Some("/signed-out"));
    assert_eq!(guest.cookie(), None);

    for present in [None, Some(cookie.clone())] {
        guest.present(present);
        for path in ["/signed-out", "/cart", "/session", "/things/tide-mug"] {
            let page = guest.get(&shop, path).await.unwrap();
            assert_eq!(page.status, StatusCode::OK);
            assert!(!page.body.contains("Ada") && !page.body.contains("1 Quay"));
            assert_eq!(page.quantity("tide-mug"), 0);
        }
    }
    guest.present(None);
    register(&shop, &guest, "Bob").await;
    let page = guest.get(&shop, "/session").await.unwrap();
    assert!(!page.body.contains("tide-mug") && !page.body.contains("Ada"));
    let review = guest.get(&shop, "/checkout/review").await.unwrap();
    assert_eq!(review.location.as_deref(), Some("/cart"));

    assert!(shop.close().success());
    let sessions = SqliteStore::open(folder.path().join("shop.db")).unwrap();
    let (_, id) = cookie.split_once('=').unwrap();
    let key = Key::from(&SessionId::parse(id.as_bytes()).unwrap());
    let left = sessions.load(&key).await.unwrap().expect("a tombstone");
    assert_eq!(left.ended(), Some(&Ended::LoggedOut));
    assert_eq!(left.slots(), []);
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_are_told_alike() {
    let shop = Shop::open("memory");
    customer(&shop, "Ada").await;
    let mut answers = Vec::new();
    for name in ["Ada", "Eve"] {
        let page = try_to_sign_in(&shop, &Guest::new(), name, "who+knows").await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        answers.push(page.body.replace(name, ""));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_browser_has_five_tries_however_many_it_makes_at_once() {
    let folder = TempDir::new().unwrap();
    let shop = Arc::new(Shop::open(&store(&folder)));
    customer(&shop, "Ada").await;
    let guest = Arc::new(Guest::new());
    add(&shop, &guest, "tide-mug", 1).await;

    let (begun, mut tries) = (Instant::now(), JoinSet::new());
    for _ in 0..16 {
        let (shop, guest) = (Arc::clone(&shop), Arc::clone(&guest));
        tries.spawn(async move {
            let mut looked_at = 0;
            for _ in 0..5 {
                let page = try_to_sign_in(&shop, &guest, "Ada", "who+knows").await;
                match page.status {
                    StatusCode::UNPROCESSABLE_ENTITY => looked_at += 1,
                    StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {}
                    status => panic!("{status}"),
                }
            }
            looked_at
        });
    }
    let looked_at = tries.join_all().await.into_iter().sum::<usize>();
    assert!(
        looked_at <= 4,
        "the fifth is told to come back: {looked_at}"
    );

    let page = try_to_sign_in(&shop, &guest, "Ada", PASSWORD).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = page.headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    let least = 900 - begun.elapsed().as_secs();
    assert!((least - 1..=901).contains(&wait), "{wait}");
    assert_eq!(quantity(&shop, &guest, "tide-mug").await, 1);
    // Who drops the cookie has a browser's tries again, of those that the name has.
    sign_in(&shop, &Guest::new(), "Ada").await;
}

#[tokio::test]
async fn a_name_is_locked_for_whoever_comes_and_open_sessions_go_on() {
    let shop = Shop::open("memory");
    let ada = customer(&shop, "Ada").await;
    add(&shop, &ada, "tide-mug", 1).await;
    for _ in 0..20 {
        let page = try_to_sign_in(&shop, &Guest::new(), "ada", "who+knows").await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let page = try_to_sign_in(&shop, &Guest::new(), "Ada", PASSWORD).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(quantity(&shop, &ada, "tide-mug").await, 1);
}

#[tokio::test]
async fn a_form_on_somebody_elses_page_changes_nothing() {
    let shop = Shop::open("memory");
    customer(&shop, "Eve").await;
    let victim = Guest::new();
    for foreign in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let form = credentials("Eve", PASSWORD);
        let headers = [foreign];
        let sent = victim.post_with(&shop, "/sign-in", &form, &headers);
        let page = sent.await.unwrap();
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{foreign:?}");
        assert!(page.body.contains("Saltmarsh"));
        assert_eq!(victim.cookie(), None);
    }
}

/// The ids of the devices on the account's page, the newest first, and whether each is this one.
fn devices(page: &Page) -> Vec<(String, bool)> {
    let items = page.body.split("<li class=\"panel").skip(1);
    items
        .map(|item| {
            let (_, after) = item.split_once("name=\"device\" value=\"").unwrap();
            let (id, _) = after.split_once('"').unwrap();
            (id.to_owned(), item.starts_with(" here"))
        })
        .collect()
}

#[tokio::test]
async fn nobody_signs_out_or_renames_what_is_not_theirs() {
    let shop = Shop::open("memory");
    let (ada, eve) = (customer(&shop, "Ada").await, customer(&shop, "Eve").await);
    let listed = devices(&ada.get(&shop, "/account").await.unwrap());
    let [(device, true)] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    for (path, form) in [
        ("/account/sign-out", format!("device={device}")),
        ("/account/label", format!("device={device}&label=Mine")),
    ] {
        let answer = eve.post(&shop, path, &form).await.unwrap();
        assert_eq!(answer.location.as_deref(), Some("/account"));
        let page = eve.get(&shop, "/account").await.unwrap();
        assert!(notice(&page).unwrap().contains("signed out already"));
        let answer = Guest::new().post(&shop, path, &form).await.unwrap();
        let door = answer.location.unwrap();
        assert!(door.starts_with("/sign-in"), "{door}");
    }
    let page = ada.get(&shop, "/account").await.unwrap();
    assert_eq!(devices(&page), listed);
    assert!(!page.body.contains("Mine"));
}

#[tokio::test]
async fn who_signs_in_on_an_eleventh_device_is_signed_out_on_the_first() {
    let shop = Shop::open("memory");
    let first = customer(&shop, "Ada").await;
    let others: Vec<_> = (0..10).map(|_| Guest::new()).collect();
    for guest in &others {
        sign_in(&shop, guest, "Ada").await;
    }
    let page = first.get(&shop, "/account").await.unwrap();
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    let page = others[9].get(&shop, "/account").await.unwrap();
    let listed = devices(&page);
    assert_eq!(listed.len(), 10);
    assert!(listed[0].1, "the newest comes first");
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_when_the_shop_opens() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::open(&store(&folder));
    let ada = customer(&shop, "Ada").await;
    add(&shop, &ada, "tide-mug", 1).await;
    shop.kill();
    let ledger = folder.path().join("shop.accounts.db");
    let ledger = rusqlite::Connection::open(ledger).unwrap();
    ledger
        .execute("UPDATE users SET closed = TRUE", [])
        .unwrap();

    let shop = Shop::open(&store(&folder));
    let cart = ada.get(&shop, "/cart").await.unwrap();
    assert!(cart.body.contains("id=\"ended\"") && cart.quantity("tide-mug") == 0);
    let newcomer = customer(&shop, "Ada").await;
    assert_eq!(quantity(&shop, &newcomer, "tide-mug").await, 0);
}

#[tokio::test]
async fn nobody_is_signed_in_to_an_account_that_is_closed_meanwhile() {
    let shop = Shop::open("memory");
    for round in 0..6_u64 {
        let name = format!("Ada{round}");
        let desk = customer(&shop, &name).await;
        let phone = Guest::new();
        add(&shop, &phone, "tide-mug", 1).await;
        let form = format!("password={PASSWORD}");
        let leaves = desk.post(&shop, "/account/leave", &form);
        let signs_in = async {
            tokio::time::sleep(Duration::from_millis(10 * round)).await;
            try_to_sign_in(&shop, &phone, &name, PASSWORD).await
        };
        let (left, signed_in) = tokio::join!(leaves, signs_in);
        assert_eq!(left.unwrap().location.as_deref(), Some("/forgotten"));
        let account = phone.get(&shop, "/account").await.unwrap();
        let to = account.location.as_deref();
        let told = signed_in.status;
        assert_eq!(to, Some("/sign-in?back=/account"), "round {round}: {told}");
    }
}

/// A guest with a cart, whose account has one too.
async fn torn(shop: &Shop, name: &str) -> Guest {
    let account = customer(shop, name).await;
    add(shop, &account, "heron-teapot", 1).await;
    add(shop, &account, "tide-mug", 1).await;
    let guest = Guest::new();
    add(shop, &guest, "tide-mug", 2).await;
    guest
}

/// Checks that both carts are one, here and on a device that comes only now.
async fn check_credited_once(shop: &Shop, guest: &Guest, name: &str) {
    let another = Guest::new();
    sign_in(shop, &another, name).await;
    for guest in [guest, &another] {
        let cart = guest.get(shop, "/cart").await.unwrap();
        let held = (cart.quantity("heron-teapot"), cart.quantity("tide-mug"));
        assert_eq!(held, (1, 3), "{name}");
    }
}

/// Returns `true` if the session's page says that a password is being tried.
fn is_trying(page: &Page) -> bool {
    !page.body.contains("id=\"field-tries\" class=\"absent\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_that_sign_in_at_once_bring_the_cart_once() {
    const ROUNDS: usize = 8;
    /// On a busy machine they often miss each other.
    const MOST: usize = 200;

    let folder = TempDir::new().unwrap();
    let shop = Arc::new(Shop::open(&store(&folder)));
    let (mut both, mut round) = (0, 0);
    while round < ROUNDS || both == 0 {
        assert!(round < MOST, "they never met");
        let name = format!("Ada{round}");
        let guest = Arc::new(torn(&shop, &name).await);
        let onlooker = Guest::new();
        onlooker.present(guest.cookie());
        let first = tokio::spawn({
            let (shop, guest, name) = (Arc::clone(&shop), Arc::clone(&guest), name.clone());
            async move { try_to_sign_in(&shop, &guest, &name, PASSWORD).await }
        });
        // The second comes while the shop looks at the first one's password.
        while !first.is_finished() && !is_trying(&onlooker.get(&shop, "/session").await.unwrap()) {}
        let second = try_to_sign_in(&shop, &guest, &name, PASSWORD).await;
        let statuses = [first.await.unwrap().status, second.status];
        assert_eq!(statuses, [StatusCode::SEE_OTHER; 2]);
        both += usize::from(second.location.as_deref() == Some("/cart"));
        check_credited_once(&shop, &guest, &name).await;
        round += 1;
    }
}

/// Signs in, at the first try: a login that was cut off stands in nobody's way.
async fn sign_in_at_once(shop: &Shop, guest: &Guest, name: &str) {
    let page = try_to_sign_in(shop, guest, name, PASSWORD).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{name}: {}", page.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cart_is_brought_once_though_the_shop_is_killed_amid_logins() {
    const ROUNDS: usize = 8;
    const CUSTOMERS: usize = 4;

    let folder = TempDir::new().unwrap();
    for round in 0..ROUNDS {
        let shop = Arc::new(Shop::open(&store(&folder)));
        let names: Vec<_> = (0..CUSTOMERS).map(|n| format!("Ada{round}.{n}")).collect();
        let mut guests = Vec::new();
        for name in &names {
            guests.push(Arc::new(torn(&shop, name).await));
        }
        let answered = Arc::new((AtomicUsize::new(0), Notify::new()));
        let mut tabs = JoinSet::new();
        for (guest, name) in guests.iter().zip(&names) {
            for _tab in 0..2 {
                let (guest, name) = (Arc::clone(guest), name.clone());
                let (shop, answered) = (Arc::clone(&shop), Arc::clone(&answered));
                tabs.spawn(async move {
                    let form = credentials(&name, PASSWORD);
                    let page = guest.post(&shop, "/sign-in", &form).await;
                    if page.is_ok_and(|page| page.status == StatusCode::SEE_OTHER) {
                        answered.0.fetch_add(1, Ordering::Relaxed);
                        answered.1.notify_one();
                    }
                });
            }
        }
        let enough = async {
            while answered.0.load(Ordering::Relaxed) <= round % (CUSTOMERS - 1) {
                answered.1.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        waited.expect("somebody is let in");
        shop.kill();
        tabs.join_all().await;

        let shop = Shop::open(&store(&folder));
        for (guest, name) in guests.iter().zip(&names) {
            sign_in_at_once(&shop, guest, name).await;
            check_credited_once(&shop, guest, name).await;
        }
    }
}
