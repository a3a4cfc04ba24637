//! The fields that follow a user, changed by the app itself: outside of the user's requests, and without a session.

use std::time::Duration;

use http::StatusCode;
use session_runtime::{Error, Saved, Session, Sessions, UserFields, UserId};
use session_tests::customers::{Shop, add, ask, guest, login, quietly, shown, user};
use session_tests::{Fault, Logs, Site, on_a_cache, on_each_store};

use super::breaks::{CONFIRMATION, logs_in};
use super::stored::{account, list, load_user, names};

on_each_store!(
    what_the_app_writes_is_on_every_device_and_makes_no_session,
    what_the_app_and_a_request_write_at_once_is_all_kept,
    a_user_without_a_record_gets_one_and_the_first_login_goes_on_from_it,
    nothing_that_the_app_began_before_a_deletion_comes_after_it,
    what_the_app_writes_in_doubt_is_written_once,
    nothing_that_was_in_doubt_at_a_deletion_comes_after_it,
    a_revocation_is_no_matter_to_what_the_app_writes,
    a_field_of_the_browser_is_an_error_of_the_apps_with_its_name,
);

on_a_cache!(
    what_the_app_writes_is_on_every_device_and_makes_no_session,
    nothing_that_the_app_began_before_a_deletion_comes_after_it,
);

async fn of(site: &Site, user: &str) -> UserFields<Shop> {
    let found = site.layer.sessions().with_user(user).await;
    found.expect("the store answers")
}

fn put(user: &mut UserFields<Shop>, number: u32) {
    user.seen.get_mut().push(number);
    *user.points.get_mut() += number;
}

/// A webhook: it comes without a cookie.
async fn paid(sessions: Sessions) -> Result<String, Error> {
    let mut ada = sessions.with_user::<Shop>("ada").await?;
    put(&mut ada, 2);
    Ok(format!("{:?}", ada.save().await?))
}

async fn what_the_app_writes_is_on_every_device_and_makes_no_session(site: Site) {
    let mut phone = user(&site, "ada", &[1]).await;
    let mut desk = user(&site, "ada", &[]).await;
    let mut bob = user(&site, "bob", &[4]).await;
    let mut provider = site.visitor();
    assert_eq!(quietly(&mut provider, paid).await, "Written");
    for device in [&mut phone, &mut desk] {
        assert_eq!(ask(device, shown).await, "ada [1, 2] 3 plain");
    }
    assert_eq!(ask(&mut bob, shown).await, "bob [4] 4 plain");
    assert_eq!(list(&site, "ada").await.len(), 2);
    let seen = of(&site, "ada").await;
    assert_eq!((&**seen.seen.get(), *seen.points.get()), (&[1, 2][..], 3));

    // What is not changed is not written, and costs one load.
    site.store.round_trips();
    let mut ada = of(&site, "ada").await;
    ada.seen.get_mut();
    assert_eq!(ada.save().await.unwrap(), Saved::Unchanged);
    assert_eq!(site.store.round_trips(), (1, 0));
    put(&mut ada, 8);
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    assert_eq!(site.store.round_trips(), (0, 1));
    assert_eq!(account(&site, "ada").await, "[1,2,8] 11");
}

async fn what_the_app_and_a_request_write_at_once_is_all_kept(site: Site) {
    let mut phone = user(&site, "ada", &[1]).await;

    // The request comes in between.
    let mut ada = of(&site, "ada").await;
    put(&mut ada, 2);
    let reply = phone
        .visit(async |mut session: Session<Shop>| add(&mut session, 4))
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    assert_eq!(*ada.points.get(), 7, "it sees what the request has written");

    // The app does.
    let sessions = site.layer.sessions();
    let handler = async move |mut session: Session<Shop>| {
        add(&mut session, 8);
        let mut ada = sessions.with_user::<Shop>("ada").await.unwrap();
        put(&mut ada, 16);
        ada.save().await.unwrap();
    };
    assert_eq!(phone.visit(handler).await.status, StatusCode::OK);
    assert_eq!(account(&site, "ada").await, "[1,4,2,16,8] 31");
}

async fn a_user_without_a_record_gets_one_and_the_first_login_goes_on_from_it(site: Site) {
    let mut ada = of(&site, "ada").await;
    assert!(!ada.seen.is_present());
    assert_eq!(ada.save().await.unwrap(), Saved::Unchanged);
    assert_eq!(load_user(&site, "ada").await, None);
    put(&mut ada, 2);
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    assert!(list(&site, "ada").await.is_empty());

    let mut phone = guest(&site, &[1]).await;
    login(&mut phone, "ada").await;
    assert_eq!(ask(&mut phone, shown).await, "ada [2, 1] 3 dark");
    assert_eq!(list(&site, "ada").await.len(), 1);

    // A login that has looked, while there is none, is not refused since the app has made one.
    let mut bob = of(&site, "bob").await;
    put(&mut bob, 4);
    let desk = guest(&site, &[8]).await;
    site.store.plan_after(CONFIRMATION, [Fault::Held]);
    let under_way = logs_in(desk.clone(), "bob");
    site.store.until_held(1).await;
    assert_eq!(bob.save().await.unwrap(), Saved::Written);
    site.store.release();
    let (_, reply) = under_way.await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(account(&site, "bob").await, "[4,8] 12");
}

async fn nothing_that_the_app_began_before_a_deletion_comes_after_it(site: Site) {
    let sessions = site.layer.sessions();
    for (name, known) in [("ada", true), ("bob", false)] {
        let id = UserId::from(name);
        for again in [false, true] {
            if known {
                drop(user(&site, name, &[1]).await);
            }
            let (mut early, mut unknown) = (of(&site, name).await, of(&site, "nobody").await);
            put(&mut early, 2);
            sessions.delete(&id).await.unwrap();
            let mut late = of(&site, name).await;
            assert!(!late.seen.is_present());
            put(&mut late, 4);
            let mut newer = site.visitor();
            if again {
                newer = user(&site, name, &[8]).await;
            }
            for fields in [&mut early, &mut late] {
                assert_eq!(fields.save().await.unwrap(), Saved::Ended);
                put(fields, 16);
                assert_eq!(fields.save().await.unwrap(), Saved::Ended, "for good");
            }
            if again {
                let shown = ask(&mut newer, shown).await;
                assert_eq!(shown, format!("{name} [8] 8 plain"));
                let mut now = of(&site, name).await;
                put(&mut now, 32);
                assert_eq!(now.save().await.unwrap(), Saved::Written);
            } else {
                let record = load_user(&site, name).await.unwrap();
                assert!(record.ended().is_some());
                assert_eq!(names(&record), ["@sessions"]);
            }
            assert_eq!(unknown.save().await.unwrap(), Saved::Unchanged);
            sessions.delete(&id).await.unwrap();
        }
    }

    // Another, amid the write.
    drop(user(&site, "eve", &[1]).await);
    let mut eve = of(&site, "eve").await;
    put(&mut eve, 2);
    site.store.plan([Fault::Held]);
    let save = tokio::spawn(async move { eve.save().await });
    site.store.until_held(1).await;
    sessions.delete("eve").await.unwrap();
    site.store.release();
    assert_eq!(save.await.unwrap().unwrap(), Saved::Ended);
    let record = load_user(&site, "eve").await.unwrap();
    assert!(record.ended().is_some());
}

async fn what_the_app_writes_in_doubt_is_written_once(site: Site) {
    drop(user(&site, "ada", &[1]).await);
    // The answer is lost: it is asked for again.
    let mut ada = of(&site, "ada").await;
    put(&mut ada, 2);
    site.store.plan([Fault::After]);
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    assert_eq!(account(&site, "ada").await, "[1,2] 3");

    // It is lost for good: the next `save` finds out first.
    for (fault, number) in [(Fault::After, 4), (Fault::Before, 8)] {
        put(&mut ada, number);
        site.store.fail_after(0, fault, Fault::Full);
        assert!(ada.save().await.unwrap_err().is_unavailable());
        site.store.heal();
        assert_eq!(ada.save().await.unwrap(), Saved::Written);
        assert_eq!(ada.save().await.unwrap(), Saved::Unchanged);
    }
    assert_eq!(account(&site, "ada").await, "[1,2,4,8] 15");

    // Nobody waits for it any more.
    put(&mut ada, 16);
    site.store.plan([Fault::Held]);
    let save = tokio::spawn(async move { ada.save().await });
    site.store.until_held(1).await;
    save.abort();
    assert!(save.await.is_err());
    site.store.release();
    site.layer.idle().await;
    assert_eq!(account(&site, "ada").await, "[1,2,4,8,16] 31");
}

async fn nothing_that_was_in_doubt_at_a_deletion_comes_after_it(site: Site) {
    for again in [false, true] {
        drop(user(&site, "ada", &[1]).await);
        let mut ada = of(&site, "ada").await;
        put(&mut ada, 2);
        site.store.fail_after(0, Fault::After, Fault::Full);
        assert!(ada.save().await.unwrap_err().is_unavailable());
        site.store.heal();
        site.layer.sessions().delete("ada").await.unwrap();
        if again {
            drop(user(&site, "ada", &[8]).await);
        }
        for _ in 0..2 {
            put(&mut ada, 4);
            assert_eq!(ada.save().await.unwrap(), Saved::Ended);
        }
        let left = if again { "[8] 8" } else { " " };
        assert_eq!(account(&site, "ada").await, left);
    }
}

async fn a_revocation_is_no_matter_to_what_the_app_writes(site: Site) {
    let sessions = site.layer.sessions();
    drop(user(&site, "ada", &[1]).await);
    let (mut ada, mut bob) = (of(&site, "ada").await, of(&site, "bob").await);
    for (name, fields) in [("ada", &mut ada), ("bob", &mut bob)] {
        sessions.revoke_all(name).await.unwrap();
        put(fields, 2);
        assert_eq!(fields.save().await.unwrap(), Saved::Written);
    }
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert_eq!(account(&site, "bob").await, "[2] 2");
    assert!(list(&site, "bob").await.is_empty());
}

async fn a_field_of_the_browser_is_an_error_of_the_apps_with_its_name(site: Site) {
    let mut phone = user(&site, "ada", &[1]).await;
    let mut ada = of(&site, "ada").await;
    assert_eq!(ada.theme.get(), "plain");
    for set in [true, false] {
        put(&mut ada, 2);
        if set {
            ada.theme.set("dark".to_owned());
        } else {
            ada.notice.set("Hello.".to_owned());
        }
        let error = ada.save().await.unwrap_err();
        let name = if set { "`theme`" } else { "`notice`" };
        assert!(error.to_string().starts_with(name), "{error}");
        assert_eq!(account(&site, "ada").await, "[1] 1");
        ada = of(&site, "ada").await;
    }
    assert_eq!(ask(&mut phone, shown).await, "ada [1] 1 plain");
}

#[tokio::test]
async fn what_the_app_does_not_save_is_logged_and_gone() {
    let logs = Logs::capture();
    let site = Site::in_memory().with(|layer| layer.deadline(Duration::from_secs(20)));
    let mut ada = of(&site, "ada").await;
    put(&mut ada, 2);
    drop(ada);
    assert_eq!(logs.lines("ERROR", "fields=2"), 1, "{}", logs.text());
    assert_eq!(load_user(&site, "ada").await, None);
}

#[tokio::test]
async fn a_name_that_no_store_can_hold_is_an_error() {
    let site = Site::in_memory();
    let name = "a".repeat(1_025);
    let found = site.layer.sessions().with_user::<Shop>(&name).await;
    assert!(found.unwrap_err().is_too_large());
}

#[tokio::test]
async fn what_is_too_large_for_a_user_who_has_nothing_yet_is_an_error() {
    let site = Site::in_memory().with(|layer| layer.max_record(100));
    let mut ada = of(&site, "ada").await;
    ada.seen.set(vec![100_000_000; 20]);
    assert!(ada.save().await.unwrap_err().is_too_large());
    assert_eq!(load_user(&site, "ada").await, None);
}
