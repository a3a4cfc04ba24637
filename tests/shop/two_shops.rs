//! Two of the example shops over one store, as behind a load balancer: whoever is served by both in turn sees one shop.

use std::sync::Arc;

use http::StatusCode;
use session_tests::{Guest, Page, Shop, TempDir};
use tokio::task::JoinSet;

const PASSWORD: &str = "grey+herons+wade";

const ADDRESS: &str = "name=Ada&street=1+Quay&postcode=1&town=Cork&country=Ireland";

/// Two shops over one store and one book of accounts.
struct Street {
    shops: [Arc<Shop>; 2],
    _folder: TempDir,
}

impl Street {
    fn open(store: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let accounts = folder.path().join("accounts.db").display().to_string();
        let options = ["--accounts", &accounts];
        let open = || Arc::new(Shop::open_with(store, "127.0.0.1:0", &options));
        Self {
            shops: [open(), open()],
            _folder: folder,
        }
    }
}

/// A browser whose every request goes to the other shop than the last one.
struct Walker<'a> {
    street: &'a Street,
    guest: Guest,
    at: usize,
}

impl<'a> Walker<'a> {
    fn new(street: &'a Street) -> Self {
        Self {
            street,
            guest: Guest::new(),
            at: 0,
        }
    }

    fn next_shop(&mut self) -> &'a Shop {
        self.at = 1 - self.at;
        &self.street.shops[self.at]
    }

    async fn get(&mut self, path: &str) -> Page {
        let shop = self.next_shop();
        let page = self.guest.get(shop, path).await.unwrap();
        assert_eq!(page.status, StatusCode::OK, "{path}: {:?}", page.location);
        page
    }

    /// Sends a form. Where that leads.
    async fn post(&mut self, path: &str, form: &str) -> String {
        let shop = self.next_shop();
        let page = self.guest.post(shop, path, form).await.unwrap();
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}: {}", page.body);
        page.location.unwrap()
    }

    /// Looks at a page in both shops, which must show the same.
    async fn look(&mut self, path: &str) -> Page {
        let (one, other) = (self.get(path).await, self.get(path).await);
        assert!(one.body == other.body, "{path} differs");
        one
    }
}

/// Walks from the shelf to an order and out again, by turns through both shops.
async fn serve_one_browser_by_turns(store: &str) {
    let street = Street::open(store);
    let mut ada = Walker::new(&street);

    ada.look("/").await;
    ada.post("/cart/add", "sku=tide-mug&quantity=2").await;
    assert!(ada.get("/cart").await.body.contains("id=\"notice\""));
    let cart = ada.look("/cart").await;
    assert!(!cart.body.contains("id=\"notice\""), "shown once, anywhere");
    assert_eq!(cart.quantity("tide-mug"), 2);

    let form = format!("name=Ada&password={PASSWORD}&back=/cart");
    ada.post("/register", &form).await;
    assert!(ada.get("/cart").await.body.contains("Welcome, Ada"));
    assert_eq!(ada.look("/cart").await.quantity("tide-mug"), 2);

    let mut phone = Walker::new(&street);
    phone.post("/cart/add", "sku=tide-mug&quantity=1").await;
    phone.post("/sign-in", &form).await;
    assert!(phone.get("/cart").await.body.contains("two carts are one"));
    for walker in [&mut ada, &mut phone] {
        assert_eq!(walker.look("/cart").await.quantity("tide-mug"), 3);
    }

    ada.post("/checkout", ADDRESS).await;
    let review = ada.get("/checkout/review").await;
    assert!(review.body.contains("1 Quay"));
    // Both shops get the click, and two clicks place one order.
    let place = "total=%E2%82%AC60.50&to=Ada,+1+Quay,+1+Cork,+Ireland";
    let [left, right] = &street.shops;
    let (one, other) = tokio::join!(
        ada.guest.post(left, "/checkout/place", place),
        ada.guest.post(right, "/checkout/place", place),
    );
    let placed = [one.unwrap(), other.unwrap()].map(|page| page.status);
    assert!(placed.contains(&StatusCode::SEE_OTHER), "{placed:?}");
    let order = ada.look("/order").await;
    assert!(order.body.contains("Thank you, Ada"));
    assert!(phone.look("/order").await.body == order.body);
    assert_eq!(phone.look("/cart").await.quantity("tide-mug"), 0);

    ada.post("/account/sign-out-others", "").await;
    let page = phone.look("/cart").await;
    assert!(page.body.contains("signed out from another device"));
    let way = ada.post("/sign-out", "").await;
    assert_eq!(way, "/signed-out");
    assert_eq!(ada.guest.cookie(), None);
    assert!(!ada.look("/cart").await.body.contains("Ada"));
}

/// Adds to one cart through both shops at once. Not one piece is lost.
async fn count_every_piece(store: &str) {
    const TABS: usize = 6;
    const PIECES: usize = 15;

    let street = Street::open(store);
    let mut guest = Walker::new(&street);
    guest.post("/cart/add", "sku=heron-teapot&quantity=1").await;
    let mut tabs = JoinSet::new();
    for tab in 0..TABS {
        let own = Guest::new();
        own.present(guest.guest.cookie());
        let shops = street.shops.clone();
        tabs.spawn(async move {
            for piece in 0..PIECES {
                let shop = &shops[(tab + piece) % 2];
                let form = "sku=tide-mug&quantity=1";
                let page = own.post(shop, "/cart/add", form).await.unwrap();
                assert_eq!(page.status, StatusCode::SEE_OTHER);
            }
        });
    }
    tabs.join_all().await;
    guest.get("/cart").await; // with its notice
    let cart = guest.look("/cart").await;
    assert_eq!(cart.quantity("tide-mug"), 90);
    assert_eq!(cart.quantity("heron-teapot"), 1);
}

/// Whoever was served by a shop that is gone goes on in the other.
async fn go_on_without_one(store: &str) {
    let street = Street::open(store);
    let [left, right] = &street.shops;
    let guest = Guest::new();
    let add = "sku=tide-mug&quantity=2";
    guest.post(left, "/cart/add", add).await.unwrap();
    left.kill();
    assert!(guest.get(left, "/cart").await.is_err());
    let cart = guest.get(right, "/cart").await.unwrap();
    assert_eq!(cart.quantity("tide-mug"), 2);
    assert!(cart.body.contains("id=\"notice\""));
}

/// Each promise on each store that shops can share. Each has its own book of accounts, numbered from one: on a server
/// that they share, only one may register anybody.
macro_rules! on_each_shared_store {
    ($($test:ident: $walk:ident),* $(,)?) => {
        mod on_redis {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = session_tests::RedisServer::shared() {
                    super::$walk(&server.url()).await;
                }
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = session_tests::PostgresServer::shared() {
                    super::$walk(&server.url()).await;
                }
            })*
        }

        mod on_mysql {
            $(#[tokio::test]
            async fn $test() {
                if let Some(server) = session_tests::MysqlServer::shared() {
                    super::$walk(&server.url()).await;
                }
            })*
        }
    };
}

on_each_shared_store![
    a_browser_served_by_turns_sees_one_shop: serve_one_browser_by_turns,
    two_shops_that_fill_one_cart_lose_nothing: count_every_piece,
    where_one_shop_is_killed_the_other_goes_on: go_on_without_one,
];
