//! Sessions that were logged in by a fingerprint, and end when the user has another.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use session_runtime::{Error, LoggedIn, Session, SessionLayer, UserId};
use session_tests::customers::{
    Club, NOTHING, Shop, add, ask, club, gather, guest, quietly, shown, try_login, user, why,
};
use session_tests::{Fault, Site, Visitor, on_a_cache, on_each_store};
use tokio::sync::Notify;

use super::stored::{account, admitted, list, load};

on_each_store!(
    a_session_ends_when_the_password_changes_and_others_do_not,
    the_page_that_changes_the_password_goes_on_in_its_session,
    a_fingerprint_that_changes_back_revives_nothing,
);

on_a_cache!(a_session_ends_when_the_password_changes_and_others_do_not);

/// The app's table of users: what each has of a password.
#[derive(Clone, Default)]
struct Table {
    hashes: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<usize>>,
    down: Arc<Mutex<bool>>,
}

impl Table {
    fn set(&self, user: &str, hash: &str) {
        let mut hashes = self.hashes.lock().unwrap();
        hashes.insert(user.to_owned(), hash.to_owned());
    }

    fn remove(&self, user: &str) {
        self.hashes.lock().unwrap().remove(user);
    }

    fn under(&self, site: Site) -> Site {
        let table = self.clone();
        site.with(|layer| table.in_layer(layer))
    }

    fn in_layer(self, layer: SessionLayer) -> SessionLayer {
        layer.fingerprint_of(move |user: UserId| {
            let table = self.clone();
            async move {
                *table.asked.lock().unwrap() += 1;
                if *table.down.lock().unwrap() {
                    return Err(io::Error::other("no table"));
                }
                let found = table.hashes.lock().unwrap().get(user.as_str()).cloned();
                Ok(found)
            }
        })
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn enter(visitor: &mut Visitor, user: &'static str, hash: &'static str) {
    let handler =
        async move |mut session: Session<Shop>| session.login_with_fingerprint(user, hash).await;
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
}

async fn a_session_ends_when_the_password_changes_and_others_do_not(site: Site) {
    let table = Table::default();
    let site = table.under(site);
    table.set("ada", "one");
    table.set("bob", "one");
    let (mut phone, mut desk, mut bob) = (guest(&site, &[1]).await, site.visitor(), site.visitor());
    enter(&mut phone, "ada", "one").await;
    enter(&mut desk, "ada", "one").await;
    enter(&mut bob, "bob", "one").await;
    let mut without = user(&site, "ada", &[]).await;
    assert_eq!(quietly(&mut phone, shown).await, "ada [1] 1 dark");
    assert_eq!(quietly(&mut desk, shown).await, "ada [1] 1 plain");
    gather(&mut desk, 2).await;

    table.set("ada", "two");
    let key = phone.key();
    // A schema without anything that follows is looked at, too.
    assert_eq!(ask(&mut phone, club).await, "0 ");
    assert!(load(&site, &key).await.unwrap().ended().is_some());
    assert_eq!(ask(&mut phone.clone(), why).await, "Some(Revoked)");
    let answer = desk.visit(async |_: LoggedIn<Shop>| ()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // What it would have changed is not written.
    gather(&mut desk, 4).await;
    assert_eq!(account(&site, "ada").await, "[1,2] 3");

    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");
    assert_eq!(ask(&mut without, shown).await, "ada [1, 2] 3 plain");
    assert_eq!(admitted(&site, "ada").await, [without.key()]);
    enter(&mut phone, "ada", "two").await;
    assert_eq!(list(&site, "ada").await.len(), 2);

    // Nor is there a user any more.
    table.remove("ada");
    assert_eq!(ask(&mut phone, shown).await, NOTHING);
    assert_eq!(ask(&mut without, shown).await, "ada [1, 2] 3 plain");
}

async fn the_page_that_changes_the_password_goes_on_in_its_session(site: Site) {
    let table = Table::default();
    let site = table.under(site);
    table.set("ada", "one");
    let (mut phone, mut desk) = (site.visitor(), site.visitor());
    enter(&mut phone, "ada", "one").await;
    enter(&mut desk, "ada", "one").await;
    gather(&mut phone, 1).await;
    let stored = table.clone();
    let change = async move |mut session: Session<Shop>| {
        stored.set("ada", "two");
        session.login_with_fingerprint("ada", "two").await?;
        add(&mut session, 2);
        Ok::<_, Error>(())
    };
    let key = phone.key();
    assert_eq!(phone.visit(change).await.status, StatusCode::OK);
    assert_eq!(phone.key(), key);
    assert_eq!(ask(&mut phone, shown).await, "ada [1, 2] 3 plain");
    assert_eq!(ask(&mut desk, shown).await, NOTHING);
    // A login without one is not compared any more.
    assert_eq!(try_login(&mut phone, "ada").await.status, StatusCode::OK);
    table.set("ada", "three");
    assert_eq!(ask(&mut phone, shown).await, "ada [1, 2] 3 plain");
}

async fn a_fingerprint_that_changes_back_revives_nothing(site: Site) {
    let table = Table::default();
    let site = table.under(site);
    table.set("ada", "one");
    let mut phone = site.visitor();
    enter(&mut phone, "ada", "one").await;
    table.set("ada", "two");
    let mut tab = phone.clone();
    assert_eq!(ask(&mut phone, shown).await, NOTHING);
    table.set("ada", "one");
    assert_eq!(ask(&mut tab, shown).await, NOTHING);
    assert_eq!(ask(&mut tab, why).await, "Some(Revoked)");
}

#[tokio::test]
async fn the_table_is_asked_once_in_a_request_and_only_where_there_is_a_fingerprint() {
    let table = Table::default();
    let site = table.under(Site::in_memory());
    table.set("ada", "one");
    let mut phone = guest(&site, &[1]).await;
    ask(&mut phone, shown).await;
    assert_eq!(table.asked(), 0);
    enter(&mut phone, "ada", "one").await;
    assert_eq!(table.asked(), 0);
    ask(&mut phone, async |_: Session<Shop>, _: Session<Club>| ()).await;
    assert_eq!(table.asked(), 1);
    let mut without = user(&site, "ada", &[]).await;
    ask(&mut without, shown).await;
    assert_eq!(table.asked(), 0);
}

#[tokio::test]
async fn a_table_or_a_store_that_fails_lets_nobody_in() {
    let table = Table::default();
    let site = table.under(Site::in_memory());
    table.set("ada", "one");
    let mut phone = site.visitor();
    enter(&mut phone, "ada", "one").await;
    *table.down.lock().unwrap() = true;
    let reply = phone.visit(shown).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    *table.down.lock().unwrap() = false;
    assert_eq!(ask(&mut phone, shown).await, "ada [] 0 plain");

    // It cannot be ended: no request sees it all the same.
    table.set("ada", "two");
    for _ in 0..2 {
        site.store.at_swaps(Some(Fault::Full));
        assert_eq!(ask(&mut phone.clone(), shown).await, NOTHING);
    }
    site.store.heal();
    assert_eq!(ask(&mut phone.clone(), shown).await, NOTHING);
    assert_eq!(ask(&mut phone, why).await, "Some(Revoked)");
    assert!(list(&site, "ada").await.is_empty());
}

#[tokio::test]
async fn nothing_of_a_fingerprint_is_stored_as_it_is() {
    let site = Site::in_memory();
    let mut phone = site.visitor();
    enter(&mut phone, "ada", "$argon2id$secret").await;
    let bytes = site.record(&phone).await.unwrap().to_bytes();
    let needle = b"$argon2id$secret";
    assert!(!bytes.windows(needle.len()).any(|window| window == needle));
}

#[tokio::test]
async fn what_comes_while_the_password_is_changed_begins_nothing_over_the_session_that_goes_on() {
    let (table, waits) = (Table::default(), Arc::new(AtomicBool::new(false)));
    table.set("ada", "one");
    let [asked, changed] = [(); 2].map(|()| Arc::new(Notify::new()));
    let (hashes, wait) = (table.clone(), Arc::clone(&waits));
    let (asks, goes_on) = (Arc::clone(&asked), Arc::clone(&changed));
    let site = Site::in_memory().with(|layer| {
        layer.fingerprint_of(move |user: UserId| {
            let (hashes, wait) = (hashes.clone(), Arc::clone(&wait));
            let (asks, goes_on) = (Arc::clone(&asks), Arc::clone(&goes_on));
            async move {
                if wait.swap(false, Ordering::SeqCst) {
                    asks.notify_one();
                    goes_on.notified().await;
                }
                let found = hashes.hashes.lock().unwrap().get(user.as_str()).cloned();
                Ok::<_, io::Error>(found)
            }
        })
    });
    let mut visitor = site.visitor();
    enter(&mut visitor, "ada", "one").await;
    let mut tab = visitor.clone();
    waits.store(true, Ordering::SeqCst);
    let late = async |mut session: Session<Shop>| {
        session.notice.set("Hello.".to_owned());
        format!("{:?} {:?}", session.user(), session.ended())
    };
    let waiting = tokio::spawn(async move { quietly(&mut visitor, late).await });
    asked.notified().await;
    let change = async move |mut session: Session<Shop>| {
        table.set("ada", "two");
        session.login_with_fingerprint("ada", "two").await
    };
    assert_eq!(tab.visit(change).await.status, StatusCode::OK);
    changed.notify_one();
    assert_eq!(waiting.await.unwrap(), "None Some(LoggedIn)");
    assert_eq!(quietly(&mut tab, shown).await, "ada [] 0 plain");
}
