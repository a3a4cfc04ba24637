//! The example shop as guests and operators meet it: a process that is closed, killed, and started again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use session_tests::{Guest, Shop, TempDir, Tries, wait_for};
use tokio::task::JoinSet;

const SKUS: [&str; 4] = ["tide-mug", "heron-teapot", "mudflat-bowl", "horizon-plate"];

/// The shop's limit for one product is 99: short of it, each add counts.
const MOST: u32 = 90;

fn store(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("shop.db").display())
}

fn one(sku: &str) -> String {
    format!("sku={sku}&quantity=1")
}

#[tokio::test]
async fn a_cart_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let guest = Guest::new();

    let shop = Shop::open(&store(&folder));
    let added = guest
        .post(&shop, "/cart/add", "sku=tide-mug&quantity=3")
        .await
        .unwrap();
    assert_eq!(added.status, StatusCode::SEE_OTHER);
    assert!(shop.close().success(), "it closes in good order");

    let shop = Shop::open(&store(&folder));
    let cart = guest.get(&shop, "/cart").await.unwrap();
    assert_eq!(cart.quantity("tide-mug"), 3);
    assert!(
        cart.body.contains("id=\"notice\""),
        "the notice waited for its page"
    );
    let again = guest.get(&shop, "/cart").await.unwrap();
    assert!(!again.body.contains("id=\"notice\""), "and is shown once");
}

#[tokio::test]
async fn who_only_looks_gets_no_cookie() {
    let shop = Shop::open("memory");
    let guest = Guest::new();
    for path in ["/", "/things/tide-mug", "/cart", "/session", "/style.css"] {
        let page = guest.get(&shop, path).await.unwrap();
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(guest.cookie(), None, "{path}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_the_shops_look() {
    let shop = Shop::open("memory");
    let guest = Guest::new();
    let look = |body: &str| {
        assert!(
            body.contains("Saltmarsh") && body.contains("</html>"),
            "{body}"
        );
    };

    for (path, status) in [
        ("/things/gold-bar", 404),
        ("/nowhere", 404),
        ("/art/../main.rs", 404),
        ("/cart/add", 405),
    ] {
        let page = guest.get(&shop, path).await.unwrap();
        assert_eq!(page.status, status, "{path}");
        look(&page.body);
    }
    let large = format!("sku=tide-mug&quantity=1&more={}", "x".repeat(20_000));
    for (form, status) in [
        ("sku=gold-bar&quantity=1", 404),
        ("sku=tide-mug&quantity=-1", 422),
        ("sku=tide-mug&quantity=99999999999", 422),
        ("quantity=1", 422),
        (large.as_str(), 413),
    ] {
        let page = guest.post(&shop, "/cart/add", form).await.unwrap();
        assert_eq!(page.status, status, "{form:.60}");
        look(&page.body);
        assert_eq!(guest.cookie(), None, "{form:.60}");
    }
    let away = guest
        .post(&shop, "/currency", "currency=EUR&back=//example.org")
        .await
        .unwrap();
    assert_eq!(away.status, 422);

    let greedy = guest
        .post(&shop, "/cart/add", "sku=tide-mug&quantity=100")
        .await
        .unwrap();
    assert_eq!(greedy.status, StatusCode::SEE_OTHER);
    let cart = guest.get(&shop, "/cart").await.unwrap();
    assert!(cart.body.contains("we can pack 99"), "{}", cart.body);
    assert_eq!(cart.quantity("tide-mug"), 0);
}

#[tokio::test]
async fn what_a_guest_writes_is_shown_and_never_run() {
    let shop = Shop::open("memory");
    let guest = Guest::new();
    guest
        .post(&shop, "/cart/add", &one("tide-mug"))
        .await
        .unwrap();
    let form =
        "name=%3Cscript%3Ealert(1)%3C/script%3E&street=%22%3E1&postcode=1&town=x&country=France";
    let answer = guest.post(&shop, "/checkout", form).await.unwrap();
    assert_eq!(answer.location.as_deref(), Some("/checkout/review"));
    for path in ["/checkout", "/checkout/review", "/session"] {
        let page = guest.get(&shop, path).await.unwrap();
        assert!(
            page.body.contains("alert(1)") && !page.body.contains("<script"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_deleted_session_is_explained_to_whoever_presents_it() {
    let shop = Shop::open("memory");
    let guest = Guest::new();
    guest
        .post(&shop, "/cart/add", &one("tide-mug"))
        .await
        .unwrap();
    let cookie = guest.cookie().expect("a session");
    let forgotten = guest.post(&shop, "/session/forget", "").await.unwrap();
    assert_eq!(forgotten.location.as_deref(), Some("/forgotten"));
    assert_eq!(guest.cookie(), None, "the cookie is removed");

    guest.present(Some(cookie));
    let cart = guest.get(&shop, "/cart").await.unwrap();
    assert!(
        cart.body.contains("you asked us to forget you"),
        "{}",
        cart.body
    );
    assert_eq!(cart.quantity("tide-mug"), 0);

    guest.post(&shop, "/session/renew", "").await.unwrap();
    let fresh = guest.get(&shop, "/cart").await.unwrap();
    assert!(
        !fresh.body.contains("id=\"ended\""),
        "it is explained until a new session begins"
    );
}

#[tokio::test]
async fn two_clicks_place_one_order_to_the_address_that_was_seen() {
    let shop = Shop::open("memory");
    let guest = Guest::new();
    guest
        .post(&shop, "/cart/add", &one("tide-mug"))
        .await
        .unwrap();
    let address = "name=Ada&street=1+Quay&postcode=1&town=Cork&country=Ireland";
    let elsewhere = "name=Ada&street=2+Moor&postcode=2&town=Bonn&country=Germany";
    guest.post(&shop, "/checkout", address).await.unwrap();

    let agreed = "total=%E2%82%AC24.50&to=Ada,+1+Quay,+1+Cork,+Ireland";
    // Another tab had another address in mind, which whoever looks at the first does not know.
    guest.post(&shop, "/checkout", elsewhere).await.unwrap();
    let page = guest.post(&shop, "/checkout/place", agreed).await.unwrap();
    assert_eq!(page.location.as_deref(), Some("/checkout/review"));
    let review = guest.get(&shop, "/checkout/review").await.unwrap();
    assert!(review.body.contains("The address has changed") && review.body.contains("2 Moor"));
    guest.post(&shop, "/checkout", address).await.unwrap();

    let place = || guest.post(&shop, "/checkout/place", agreed);
    let (one, other, third) = tokio::join!(place(), place(), place());
    let placed: Vec<_> = [one, other, third]
        .into_iter()
        .map(|page| page.unwrap())
        .collect();
    let ordered = placed
        .iter()
        .filter(|page| page.location.as_deref() == Some("/order"))
        .count();
    assert!(ordered >= 1, "{placed:?}");
    let order = guest.get(&shop, "/order").await.unwrap();
    assert!(order.body.contains("Thank you, Ada") && order.body.contains("€24.50"));
    assert_eq!(
        guest
            .get(&shop, "/cart")
            .await
            .unwrap()
            .quantity("tide-mug"),
        0
    );
}

/// One session, what was sent for it, and what was answered.
#[derive(Default)]
struct Customer {
    guest: Guest,
    sent: BTreeMap<&'static str, AtomicU32>,
    acknowledged: BTreeMap<&'static str, AtomicU32>,
}

impl Customer {
    fn new() -> Self {
        let none = || SKUS.iter().map(|sku| (*sku, AtomicU32::new(0))).collect();
        Self {
            guest: Guest::new(),
            sent: none(),
            acknowledged: none(),
        }
    }

    /// Adds one thing after another until the shop does not answer.
    async fn shop_till_it_drops(&self, shop: &Shop, first: usize) {
        for sku in SKUS.iter().cycle().skip(first) {
            if self.sent[sku].fetch_add(1, Ordering::Relaxed) >= MOST {
                self.sent[sku].fetch_sub(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            match self.guest.post(shop, "/cart/add", &one(sku)).await {
                Ok(page) if page.status == StatusCode::SEE_OTHER => {
                    self.acknowledged[sku].fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Counts the adds that were acknowledged.
    fn acknowledged(&self) -> u32 {
        let each = self.acknowledged.values();
        each.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Compares the cart with what was acknowledged.
    async fn check(&self, shop: &Shop) {
        let cart = self.guest.get(shop, "/cart").await.unwrap();
        for sku in SKUS {
            let (least, most) = (
                self.acknowledged[sku].load(Ordering::Relaxed),
                self.sent[sku].load(Ordering::Relaxed),
            );
            let there = cart.quantity(sku);
            assert!(
                (least..=most).contains(&there),
                "{sku}: {least} acknowledged, {most} sent, {there} in the cart"
            );
        }
    }
}

/// Opens the shop, which is to take no two seconds, whatever it finds in the folder. On a machine that is busy with other
/// things it may, but not each time that it finds the same.
fn open_soon(folder: &TempDir) -> Shop {
    let found = copy(folder);
    let shop = Shop::open(&store(folder));
    let (tries, mut took) = (Tries::begin(), vec![shop.opened_in()]);
    while !took.iter().any(|took| *took < Duration::from_secs(2)) {
        tries.go_on(&took);
        took.push(Shop::open(&store(&copy(&found))).opened_in());
    }
    shop
}

/// Copies a folder of files.
fn copy(folder: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_cart_after_kill_9() {
    const ROUNDS: usize = 5;
    const CUSTOMERS: usize = 6;
    /// Tabs of one customer, which write to one session at once.
    const TABS: usize = 3;

    let folder = TempDir::new().unwrap();
    let mut customers: Vec<Arc<Customer>> = Vec::new();
    for _ in 0..ROUNDS {
        let shop = Arc::new(open_soon(&folder));
        let newcomers: Vec<_> = (0..CUSTOMERS).map(|_| Arc::new(Customer::new())).collect();
        let mut tabs = JoinSet::new();
        for customer in &newcomers {
            // The first add begins the session; from then on all tabs have its cookie.
            let first = customer
                .guest
                .post(&shop, "/currency", "currency=EUR&back=/")
                .await;
            assert_eq!(first.unwrap().status, StatusCode::SEE_OTHER);
            for tab in 0..TABS {
                let (customer, shop) = (Arc::clone(customer), Arc::clone(&shop));
                tabs.spawn(async move { customer.shop_till_it_drops(&shop, tab).await });
            }
        }
        let busy = 25 + random(100);
        wait_for("the shop is busy", async || {
            let all = newcomers.iter().map(|customer| customer.acknowledged());
            all.sum::<u32>() > busy
        })
        .await;
        let moment = Duration::from_micros(random(20_000).into());
        tokio::time::sleep(moment).await;
        shop.kill();
        while let Some(done) = tabs.join_next().await {
            done.unwrap();
        }
        customers.extend(newcomers);

        let shop = open_soon(&folder);
        for customer in &customers {
            customer.check(&shop).await;
        }
    }
}

/// A number below `bound` that differs from run to run.
fn random(bound: u32) -> u32 {
    rand::random_range(0..bound)
}
