//! The example shop in Chromium, at a desk (with scripts switched off: the shop has none) and on a phone.

use std::time::Duration;

use session_runtime::store::{SqliteStore, Store};
use session_runtime::{Ended, Key, SessionId};
use session_tests::{Chrome, Guest, Port, Screen, Shop, TempDir};

fn store(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("shop.db").display())
}

/// Fills in the address and goes on.
async fn give_address(chrome: &Chrome) {
    chrome.fill("#name", "Ada Lovelace").await;
    chrome.fill("#street", "12 Saint James's Square").await;
    chrome.fill("#postcode", "SW1Y 4JH").await;
    chrome.fill("#town", "London").await;
    chrome.fill("#country", "United Kingdom").await;
    chrome.click("#continue").await;
}

#[tokio::test]
async fn a_notice_shows_once_and_a_cart_survives_a_restart() {
    let Some(chrome) = Chrome::open(Screen::Desktop).await else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let port = Port::free();
    let shop = Shop::open_with(&store(&folder), &port.address(), &[]);

    chrome.web.goto(shop.url("/")).await.unwrap();
    chrome.look("shelf").await;
    assert_eq!(chrome.text("h1").await.unwrap(), "Things for a slow table");
    assert!(
        chrome.web.get_all_cookies().await.unwrap().is_empty(),
        "looking sets no cookie"
    );
    chrome.web.goto(shop.url("/session")).await.unwrap();
    chrome.look("session-none").await;
    chrome.web.goto(shop.url("/cart")).await.unwrap();
    chrome.look("cart-empty").await;

    chrome
        .web
        .goto(shop.url("/things/heron-teapot"))
        .await
        .unwrap();
    chrome.look("thing").await;
    chrome.fill("#quantity", "2").await;
    chrome.click("#add").await;
    assert_eq!(
        chrome.text("#notice").await.unwrap(),
        "Heron teapot: 2 more in your cart."
    );
    assert_eq!(
        chrome.text("#cart-count").await.unwrap().lines().next(),
        Some("2")
    );
    chrome.look("cart-notice").await;
    chrome.web.refresh().await.unwrap();
    assert_eq!(chrome.text("#notice").await, None, "a notice is shown once");
    assert_eq!(chrome.text("#total").await.unwrap(), "€128.00");

    let cookies = chrome.web.get_all_cookies().await.unwrap();
    let [cookie] = cookies.as_slice() else {
        panic!("{cookies:?}")
    };
    assert_eq!(cookie.http_only, Some(true));

    assert!(shop.close().success());
    let shop = Shop::open_with(&store(&folder), &port.address(), &[]);
    chrome.web.refresh().await.unwrap();
    assert_eq!(
        chrome.text("#total").await.unwrap(),
        "€128.00",
        "the cart survives a restart"
    );

    chrome.click("button[value=JPY]").await;
    assert_eq!(chrome.text("#total").await.unwrap(), "¥20,864");
    chrome.web.goto(shop.url("/things/tide-mug")).await.unwrap();
    chrome.web.goto(shop.url("/")).await.unwrap();
    chrome.click("form:has([value=harbour-lamp]) button").await;
    chrome
        .web
        .goto(shop.url("/things/mudflat-bowl"))
        .await
        .unwrap();
    chrome.look("thing-seen").await;
    chrome.web.goto(shop.url("/cart")).await.unwrap();
    chrome.look("cart").await;
    chrome.web.goto(shop.url("/session")).await.unwrap();
    chrome.look("session").await;
    let cart = chrome.text("#field-cart").await.unwrap();
    assert!(
        cart.contains("1 × harbour-lamp, 2 × heron-teapot"),
        "{cart}"
    );

    chrome.web.goto(shop.url("/things/gold-bar")).await.unwrap();
    chrome.look("not-found").await;
    chrome.quit().await;
}

#[tokio::test]
async fn a_phone_gets_from_the_shelf_to_an_order() {
    order(Screen::Phone).await;
}

#[tokio::test]
async fn a_desk_gets_from_the_shelf_to_an_order() {
    order(Screen::Desktop).await;
}

async fn order(screen: Screen) {
    let Some(chrome) = Chrome::open(screen).await else {
        return;
    };
    let shop = Shop::open("memory");
    chrome.web.goto(shop.url("/")).await.unwrap();
    chrome.look("order-0-shelf").await;
    chrome.click("form:has([value=tide-mug]) button").await;
    chrome.look("order-1-cart").await;
    chrome
        .web
        .goto(shop.url("/things/samphire-vase"))
        .await
        .unwrap();
    chrome.look("order-1-thing").await;
    chrome.click("#add").await;
    chrome.web.goto(shop.url("/checkout")).await.unwrap();
    chrome.look("order-2-checkout").await;

    // The browser asks for a name itself; what the shop asks, only one who goes around that sees.
    chrome.fill("#name", "   ").await;
    chrome.fill("#street", "12 Saint James's Square").await;
    chrome.fill("#postcode", "SW1Y 4JH").await;
    chrome.fill("#town", "London").await;
    chrome.fill("#country", "United Kingdom").await;
    chrome.click("#continue").await;
    assert_eq!(
        chrome.text("#name-problem").await.unwrap(),
        "Who is it for?"
    );
    chrome.look("order-3-problem").await;

    give_address(&chrome).await;
    chrome.look("order-4-review").await;
    assert!(
        chrome
            .text("address")
            .await
            .unwrap()
            .contains("Ada Lovelace")
    );
    assert!(
        chrome
            .text("#until")
            .await
            .unwrap()
            .contains("in 14 minutes")
            || chrome
                .text("#until")
                .await
                .unwrap()
                .contains("in 15 minutes")
    );
    chrome.web.goto(shop.url("/session")).await.unwrap();
    chrome.look("order-5-session").await;
    assert!(
        chrome
            .text("#field-checkout")
            .await
            .unwrap()
            .contains("Ada Lovelace, London")
    );

    chrome.web.goto(shop.url("/checkout/review")).await.unwrap();
    chrome.click("#place").await;
    chrome.look("order-6-thanks").await;
    assert_eq!(chrome.text("h1").await.unwrap(), "Thank you, Ada Lovelace");
    chrome.web.refresh().await.unwrap();
    assert_eq!(chrome.text("h1").await.unwrap(), "Thank you, Ada Lovelace");
    assert_eq!(
        chrome.text("#cart-count").await.unwrap().lines().next(),
        Some("0")
    );

    chrome.web.goto(shop.url("/session")).await.unwrap();
    chrome.click("#forget").await;
    chrome.look("order-7-forgotten").await;
    assert_eq!(chrome.text("h1").await.unwrap(), "Who was that?");
    assert!(
        chrome.web.get_all_cookies().await.unwrap().is_empty(),
        "the cookie is gone"
    );
    chrome.quit().await;
}

#[tokio::test]
async fn a_lapsed_checkout_and_an_ended_session_are_explained() {
    let Some(chrome) = Chrome::open(Screen::Desktop).await else {
        return;
    };
    let port = Port::free();
    // Longer than this machine takes from one page to the next, if it does not stand still.
    let hurry = Duration::from_secs(10);
    let shop = Shop::open_with(
        "memory",
        &port.address(),
        &["--hurry", &hurry.as_secs().to_string()],
    );
    chrome.web.goto(shop.url("/things/tide-mug")).await.unwrap();
    chrome.click("#add").await;
    for _ in 0..5 {
        chrome.web.goto(shop.url("/checkout")).await.unwrap();
        give_address(&chrome).await;
        if chrome.text("h1").await.unwrap() == "A last look" {
            break;
        }
    }
    assert_eq!(chrome.text("h1").await.unwrap(), "A last look");
    tokio::time::sleep(hurry + Duration::from_millis(100)).await;
    chrome.click("#place").await;
    assert_eq!(chrome.text("h1").await.unwrap(), "Your checkout has lapsed");
    chrome.look("lapsed").await;
    chrome.web.goto(shop.url("/cart")).await.unwrap();
    assert_eq!(
        chrome.text("#total").await.unwrap(),
        "€24.50",
        "the cart is as it was"
    );

    // A shop that remembers nothing has never heard of this session.
    assert!(shop.close().success());
    let shop = Shop::open_with("memory", &port.address(), &[]);
    chrome.web.goto(shop.url("/cart")).await.unwrap();
    let ended = chrome.text("#ended").await.unwrap();
    assert!(ended.starts_with("We no longer have your cart"), "{ended}");
    chrome.look("ended").await;
    chrome.click("#ended button").await;
    assert_eq!(
        chrome.text("#ended").await,
        None,
        "it is explained until a new session begins"
    );
    chrome.quit().await;
}

const PASSWORD: &str = "grey herons wade";

/// Puts some of a product into the cart.
async fn put(chrome: &Chrome, shop: &Shop, sku: &str, quantity: u32) {
    let page = shop.url(&format!("/things/{sku}"));
    chrome.web.goto(page).await.unwrap();
    chrome.fill("#quantity", &quantity.to_string()).await;
    chrome.click("#add").await;
}

/// Fills in either form of the door, and sends it.
async fn enter(chrome: &Chrome, name: &str, password: &str, button: &str) {
    chrome.fill("#name", name).await;
    chrome.fill("#password", password).await;
    chrome.click(button).await;
}

/// Returns what the cart's page says of a product; nothing if it is not in the cart.
async fn quantity(chrome: &Chrome, sku: &str) -> String {
    let field = chrome.value(&format!("#quantity-{sku}")).await;
    field.unwrap_or_default()
}

#[tokio::test]
async fn two_browsers_share_a_cart_until_one_signs_the_other_out() {
    let desk = Screen::Desktop;
    let (Some(a), Some(b)) = (Chrome::open(desk).await, Chrome::open(desk).await) else {
        return;
    };
    let shop = Shop::open("memory");

    put(&a, &shop, "tide-mug", 2).await;
    a.click("#sign-in").await;
    a.look("account-sign-in").await;
    a.click("#to-register").await;
    enter(&a, "Ada Lovelace", "ada lovelace", "#open").await;
    a.look("account-register").await;
    let problem = a.text("#password-problem").await.unwrap();
    assert!(problem.contains("more than your name"), "{problem}");
    enter(&a, "Ada Lovelace", PASSWORD, "#open").await;
    assert_eq!(
        a.text("#notice").await.unwrap(),
        "Welcome, Ada Lovelace. Your cart is yours on every device now."
    );
    assert_eq!(quantity(&a, "tide-mug").await, "2", "it came along");

    put(&b, &shop, "tide-mug", 1).await;
    put(&b, &shop, "heron-teapot", 1).await;
    b.click("#sign-in").await;
    enter(&b, "ada lovelace ", PASSWORD, "#enter").await;
    b.look("account-merged").await;
    assert_eq!(
        b.text("#notice").await.unwrap(),
        "Welcome back, Ada Lovelace. You had a cart here already: two carts are one now."
    );
    for chrome in [&b, &a] {
        chrome.web.refresh().await.unwrap();
        assert_eq!(chrome.text("#notice").await, None, "it is said once");
        assert_eq!(quantity(chrome, "tide-mug").await, "3");
        assert_eq!(quantity(chrome, "heron-teapot").await, "1");
    }

    a.click("#who").await;
    a.press(".devices li:not(.here) summary").await;
    a.fill(
        ".devices li:not(.here) [name=label]",
        "The one in the kitchen",
    )
    .await;
    a.look("account-rename").await;
    a.click(".devices li:not(.here) details button").await;
    a.look("account-devices").await;
    let title = a.text(".devices li:not(.here) h2").await.unwrap();
    assert_eq!(title, "The one in the kitchen");

    a.click(".devices li:not(.here) [action='/account/sign-out'] button")
        .await;
    assert_eq!(a.text(".devices li:not(.here)").await, None);
    is_told_and_a_guest(&b).await;
    b.look("account-revoked").await;

    sign_in_again(&b).await;
    a.click("#who").await;
    a.click("#others").await;
    assert_eq!(
        a.text("#notice").await.unwrap(),
        "Signed out on the other device."
    );
    is_told_and_a_guest(&b).await;

    sign_in_again(&b).await;
    a.click("#everywhere").await;
    assert_eq!(a.text("h1").await.unwrap(), "See you");
    assert!(a.web.get_all_cookies().await.unwrap().is_empty());
    is_told_and_a_guest(&b).await;
    a.quit().await;
    b.quit().await;
}

/// The next click shows somebody who was signed out elsewhere that it is so.
async fn is_told_and_a_guest(chrome: &Chrome) {
    chrome.click(".to-cart").await;
    let told = chrome.text("#ended").await.expect("it is told");
    assert!(told.contains("signed out from another device"), "{told}");
    assert_eq!(chrome.text("#who").await, None);
    let count = chrome.text("#cart-count").await.unwrap();
    assert_eq!(count.lines().next(), Some("0"));
    assert!(chrome.text("main .empty").await.is_some());
}

async fn sign_in_again(chrome: &Chrome) {
    chrome.click("#sign-in").await;
    enter(chrome, "Ada Lovelace", PASSWORD, "#enter").await;
    assert_eq!(chrome.text("#ended").await, None);
    assert_eq!(quantity(chrome, "tide-mug").await, "3");
}

#[tokio::test]
async fn who_signs_out_leaves_nothing_in_the_browser_and_who_leaves_nothing_at_all() {
    let Some(phone) = Chrome::open(Screen::Phone).await else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let shop = Shop::open(&store(&folder));
    put(&phone, &shop, "samphire-vase", 2).await;
    phone.web.goto(shop.url("/register")).await.unwrap();
    phone.look("account-register").await;
    enter(&phone, "Ada Lovelace", PASSWORD, "#open").await;
    let form = format!(
        "name=Ada+Lovelace&password={}&back=/cart",
        "grey+herons+wade"
    );
    let desk = Guest::new()
        .calling_itself("Mozilla/5.0 (Windows NT 10.0; rv:145.0) Gecko/20100101 Firefox/145.0");
    desk.post(&shop, "/sign-in", &form).await.unwrap();
    phone.click("#who").await;
    phone.look("account-devices").await;
    let title = phone.text(".devices li:not(.here) h2").await.unwrap();
    assert_eq!(title, "Firefox on Windows");

    let cookies = phone.web.get_all_cookies().await.unwrap();
    let id = SessionId::parse(cookies[0].value.as_bytes()).expect("an id");
    phone
        .click(".devices .here [action='/account/sign-out'] button")
        .await;
    phone.look("account-signed-out").await;
    assert!(phone.web.get_all_cookies().await.unwrap().is_empty());
    phone.web.back().await.unwrap();
    let page = phone.text("body").await.unwrap();
    assert!(!page.contains("Ada"), "whoever goes back reads: {page}");
    for path in ["/signed-out", "/", "/cart", "/session", "/account"] {
        phone.web.goto(shop.url(path)).await.unwrap();
        let page = phone.text("body").await.unwrap();
        assert!(!page.contains("Ada"), "{path}: {page}");
        assert_eq!(phone.text("#ended").await, None, "{path}");
        let count = phone.text("#cart-count").await.unwrap();
        assert!(count.starts_with('0'), "{path}: {count}");
    }
    assert!(phone.web.get_all_cookies().await.unwrap().is_empty());

    phone.web.goto(shop.url("/sign-in")).await.unwrap();
    enter(&phone, "Ada Lovelace", PASSWORD, "#enter").await;
    assert_eq!(quantity(&phone, "samphire-vase").await, "2");
    phone.click("#who").await;
    phone.click("#leave").await;
    phone.fill("#password", "grey herons wait").await;
    phone.click("#confirm").await;
    phone.look("account-leave").await;
    assert!(phone.text("#problem").await.is_some());
    phone.fill("#password", PASSWORD).await;
    phone.click("#confirm").await;
    assert_eq!(phone.text("h1").await.unwrap(), "Who was that?");
    let cart = desk.get(&shop, "/cart").await.unwrap();
    assert!(cart.body.contains("signed out from another device"));
    assert_eq!(cart.quantity("samphire-vase"), 0);
    phone.web.goto(shop.url("/sign-in")).await.unwrap();
    enter(&phone, "Ada Lovelace", PASSWORD, "#enter").await;
    assert!(phone.text("#problem").await.is_some(), "there is no Ada");

    assert!(shop.close().success());
    let sessions = SqliteStore::open(folder.path().join("shop.db")).unwrap();
    let left = sessions.load(&Key::from(&id)).await.unwrap();
    let left = left.expect("a tombstone");
    assert_eq!(left.ended(), Some(&Ended::LoggedOut));
    assert_eq!(left.slots(), []);
    phone.quit().await;
}

#[tokio::test]
async fn a_password_tried_too_often_is_told_when_to_come_back() {
    let Some(chrome) = Chrome::open(Screen::Desktop).await else {
        return;
    };
    let shop = Shop::open("memory");
    put(&chrome, &shop, "tide-mug", 1).await;
    chrome.click("#sign-in").await;
    for left in ["", "", "3 tries", "2 tries", "one try"] {
        let problem = chrome.text("#problem").await.unwrap_or_default();
        assert!(problem.contains(left), "{problem}");
        enter(&chrome, "Nobody", "who knows", "#enter").await;
        if left == "3 tries" {
            chrome.look("account-wrong").await;
        }
    }
    chrome.look("account-come-back").await;
    let until = chrome.text("#until").await.unwrap();
    assert!(
        until == "in 15 minutes" || until.contains("in 14 minutes"),
        "{until}"
    );
    chrome.web.goto(shop.url("/sign-in")).await.unwrap();
    assert!(chrome.text("#until").await.is_some(), "there is no form");
    chrome.click("main .button").await;
    assert_eq!(quantity(&chrome, "tide-mug").await, "1");
    chrome.quit().await;
}
