//! All sessions there are: listed page by page, counted, copied, ended.

use std::collections::BTreeSet;

use axum::response::IntoResponse;
use http::StatusCode;
use session_runtime::{Device, Key, Session, SessionLayer, UserId};
use session_tests::customers::{
    NOTHING, Shop, add, ask, gather, guest, login, quietly, shown, user, why,
};
use session_tests::{AnyStore, Fault, Site, on_a_cache, on_each_store};

use super::breaks::{CONFIRMATION, logs_in};
use super::stored::{DAY, account, admitted, list};

on_each_store!(
    all_sessions_are_listed_and_counted_guests_and_users_and_nothing_else,
    when_everybody_is_logged_out_no_session_is_live_and_nothing_of_the_users_is_lost,
    a_login_that_was_under_way_when_everybody_was_logged_out_fails,
    ending_all_goes_on_where_it_broke_off,
    what_another_store_has_kept_can_be_copied_and_nobody_notices,
);

on_a_cache!(when_everybody_is_logged_out_no_session_is_live_and_nothing_of_the_users_is_lost);

async fn all(site: &Site) -> Vec<Device> {
    let sessions = site.layer.sessions();
    let (mut devices, mut next) = (Vec::new(), None);
    loop {
        let page = sessions
            .page(next.as_deref())
            .await
            .expect("the store answers");
        devices.extend(page.devices);
        next = page.next;
        if next.is_none() {
            return devices;
        }
    }
}

async fn all_sessions_are_listed_and_counted_guests_and_users_and_nothing_else(site: Site) {
    let sessions = site.layer.sessions();
    assert_eq!(sessions.count().await.unwrap(), 0);
    let gone = user(&site, "eve", &[]).await;
    site.clock.advance(DAY);
    drop(gone);
    let mut phone = user(&site, "ada", &[1]).await;
    drop(user(&site, "ada", &[]).await);
    drop(user(&site, "bob", &[]).await);
    for _ in 0..120 {
        drop(guest(&site, &[]).await);
    }
    let mut out = user(&site, "bob", &[]).await;
    ask(&mut out, async |mut session: Session<Shop>| {
        session.logout().await
    })
    .await;

    let listed = all(&site).await;
    let ids: BTreeSet<_> = listed.iter().map(Device::id).collect();
    assert_eq!(ids.len(), 123, "{listed:?}");
    let of = |name: &str| {
        listed
            .iter()
            .filter(|device| device.user().is_some_and(|user| *user == name))
            .count()
    };
    assert_eq!((of("ada"), of("bob"), of("eve")), (2, 1, 0));
    assert_eq!(sessions.count().await.unwrap(), 123);
    let own = ask(&mut phone, async |session: Session<Shop>| {
        session.device().unwrap_or_default()
    })
    .await;
    assert!(ids.contains(&*own));
    for cursor in [
        "",
        "nonsense",
        "0",
        "16/session:",
        "99/session:0000000000000000",
    ] {
        let error = sessions.page(Some(cursor)).await.expect_err(cursor);
        assert!(
            error.is_misuse() && !error.is_unavailable(),
            "{cursor}: {error}"
        );
        let answer = error.into_response();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{cursor}");
    }
}

/// As `docs/stores.md` has it.
async fn copy(from: &dyn AnyStore, to: &dyn AnyStore, users: &[UserId]) {
    let mut next = None;
    loop {
        let some = from.scan(next.as_deref(), 5).await.unwrap();
        for key in &some.keys {
            copy_one(from, to, key).await;
        }
        next = some.next;
        if next.is_none() {
            break;
        }
    }
    for user in users {
        copy_one(from, to, &Key::User(user.clone())).await;
    }
}

async fn copy_one(from: &dyn AnyStore, to: &dyn AnyStore, key: &Key) {
    if let Some(record) = from.load(key).await.unwrap() {
        to.swap(key, None, &record).await.unwrap();
    }
}

async fn what_another_store_has_kept_can_be_copied_and_nobody_notices(site: Site) {
    let (first, last, users) = (Site::in_memory(), Site::in_memory(), [UserId::from("ada")]);
    let mut visitors = vec![
        user(&first, "ada", &[1]).await,
        user(&first, "ada", &[2]).await,
    ];
    for number in 0..12 {
        visitors.push(guest(&first, &[number]).await);
    }
    let mut before = Vec::new();
    for visitor in &mut visitors {
        before.push(quietly(visitor, shown).await);
    }
    let ended = guest(&first, &[]).await;
    let delete = async |mut session: Session<Shop>| session.delete("closed").await;
    ended.clone().visit(delete).await;

    copy(first.store.inner(), site.store.inner(), &users).await;
    copy(site.store.inner(), last.store.inner(), &users).await;
    for layer in [&site.layer, &last.layer] {
        for (visitor, before) in visitors.iter().zip(&before) {
            let mut visitor = visitor.moved_to(layer);
            assert_eq!(quietly(&mut visitor, shown).await, *before);
        }
        let told = quietly(&mut ended.moved_to(layer), why).await;
        assert_eq!(told, "Some(Deleted(\"closed\"))");
        let sessions = layer.sessions();
        assert_eq!(sessions.count().await.unwrap(), visitors.len());
        assert_eq!(sessions.list("ada").await.unwrap().len(), 2);
    }
}

async fn when_everybody_is_logged_out_no_session_is_live_and_nothing_of_the_users_is_lost(
    site: Site,
) {
    let sessions = site.layer.sessions();
    let mut devices = [
        user(&site, "ada", &[1]).await,
        user(&site, "ada", &[2]).await,
        user(&site, "bob", &[4]).await,
    ];
    let mut guests = Vec::new();
    for _ in 0..30 {
        guests.push(guest(&site, &[8]).await);
    }
    let mut late = guests[0].clone();
    let ends = sessions.clone();
    // A request that is under way writes nothing any more.
    let handler = async move |mut session: Session<Shop>| {
        let ended = ends.end_all().await.unwrap();
        add(&mut session, 16);
        format!("{ended} {:?}", session.save().await.unwrap())
    };
    assert_eq!(ask(&mut late, handler).await, "33 Ended");
    for visitor in devices.iter_mut().chain(&mut guests) {
        assert_eq!(ask(&mut visitor.clone(), why).await, "Some(Revoked)");
        assert_eq!(ask(visitor, shown).await, NOTHING);
    }
    assert_eq!(sessions.count().await.unwrap(), 0);
    assert!(list(&site, "ada").await.is_empty() && admitted(&site, "ada").await.is_empty());
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert_eq!(sessions.end_all().await.unwrap(), 0);
    let mut again = user(&site, "ada", &[]).await;
    assert_eq!(quietly(&mut again, shown).await, "ada [1, 2] 3 plain");
}

async fn a_login_that_was_under_way_when_everybody_was_logged_out_fails(site: Site) {
    drop(user(&site, "ada", &[1]).await);
    let late = guest(&site, &[2]).await;
    site.store.plan_after(CONFIRMATION, [Fault::Held]);
    let under_way = logs_in(late.clone(), "ada");
    site.store.until_held(1).await;
    site.layer.sessions().end_all().await.unwrap();
    site.store.release();
    let (_, reply) = under_way.await.unwrap();
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.body
    );
    assert!(admitted(&site, "ada").await.is_empty());
    assert!(all(&site).await.is_empty());
}

#[tokio::test]
async fn a_session_that_cannot_be_read_keeps_no_other_from_ending() {
    let site = Site::in_memory();
    for _ in 0..120 {
        drop(guest(&site, &[]).await);
    }
    let devices = [
        user(&site, "ada", &[1]).await,
        user(&site, "bob", &[2]).await,
    ];
    let sessions = site.layer.sessions();
    let fails_at = |call: usize| site.store.plan_after(call, [Fault::Broken]);
    let (listing, looking_at_one) = (0, 7);
    fails_at(looking_at_one);
    assert_eq!(sessions.count().await.unwrap(), 121);
    fails_at(looking_at_one);
    assert_eq!(sessions.page(None).await.unwrap().devices.len(), 99);
    fails_at(listing);
    assert!(sessions.count().await.is_err());

    fails_at(looking_at_one);
    assert!(sessions.end_all().await.unwrap_err().is_unavailable());
    assert!(sessions.count().await.unwrap() <= 1);
    assert!(sessions.end_all().await.unwrap() <= 1);
    for mut device in devices {
        assert_eq!(ask(&mut device, why).await, "Some(Revoked)");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_read_keeps_no_other_of_its_user_from_being_listed() {
    let site = Site::in_memory();
    for _ in 0..3 {
        drop(user(&site, "ada", &[]).await);
    }
    let sessions = site.layer.sessions();
    site.store.plan_after(2, [Fault::Broken]);
    assert_eq!(sessions.list("ada").await.unwrap().len(), 2);
    site.store.plan_after(2, [Fault::Before]);
    assert!(sessions.list("ada").await.is_err());
    assert_eq!(sessions.list("ada").await.unwrap().len(), 3);
}

async fn ending_all_goes_on_where_it_broke_off(site: Site) {
    let sessions = site.layer.sessions();
    let mut visitors = Vec::new();
    for name in ["ada", "bob", "eve"] {
        visitors.push(user(&site, name, &[1]).await);
        visitors.push(guest(&site, &[1]).await);
    }
    for calls in 0..40 {
        site.store.fail_after(calls, Fault::Full, Fault::Full);
        let ended = sessions.end_all().await;
        site.store.heal();
        if ended.is_ok() {
            break;
        }
    }
    sessions.end_all().await.unwrap();
    for visitor in &mut visitors {
        assert_eq!(ask(visitor, shown).await, NOTHING);
    }
    assert_eq!(sessions.count().await.unwrap(), 0);
    let mut ada = user(&site, "ada", &[]).await;
    login(&mut ada, "ada").await;
    gather(&mut ada, 2).await;
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
}

#[tokio::test]
async fn a_newcomer_that_was_counted_still_gives_way_in_a_full_memory() {
    use session_runtime::store::MemoryStore;

    let store = MemoryStore::new().with_capacity_bytes(64 << 10);
    let layer = SessionLayer::new(store);
    for _ in 0..500 {
        let mut visitor = session_tests::Visitor::of(layer.clone());
        assert_eq!(gather(&mut visitor, 1).await.status, StatusCode::OK);
        layer.sessions().count().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_cannot_list_its_sessions_says_so() {
    use session_runtime::store::TowerSessionsStore;
    use std::error::Error as _;

    let store = TowerSessionsStore::v0_15(tower_sessions::MemoryStore::default());
    let sessions = SessionLayer::new(store).sessions();
    let error = sessions.count().await.unwrap_err();
    let cause = error.source().and_then(|error| error.source()).unwrap();
    let says = "TowerSessionsStore cannot list the sessions that it keeps";
    assert!(cause.to_string().starts_with(says), "{cause}");
    assert!(sessions.end_all().await.is_err() && sessions.page(None).await.is_err());
}
