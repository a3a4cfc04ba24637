//! The example shop in Chromium, at a desk (with scripts switched off: the shop has none) and on a phone.

use session_tests::{Chrome, Screen, Shop, TempDir};

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
    let shop = Shop::open(&store(&folder));
    let address = shop.address().to_owned();

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
    let shop = Shop::open_with(&store(&folder), &address, &[]);
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
    let shop = Shop::open_with("memory", "127.0.0.1:0", &["--hurry", "2"]);
    let address = shop.address().to_owned();
    chrome.web.goto(shop.url("/things/tide-mug")).await.unwrap();
    chrome.click("#add").await;
    chrome.web.goto(shop.url("/checkout")).await.unwrap();
    give_address(&chrome).await;
    assert_eq!(chrome.text("h1").await.unwrap(), "A last look");
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
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
    let shop = Shop::open_with("memory", &address, &[]);
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
