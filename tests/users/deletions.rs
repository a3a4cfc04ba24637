//! Deleting a user, and making the user again.

use http::StatusCode;
use session_runtime::{Session, UserId};
use session_tests::customers::{
    NOTHING, Shop, add, ask, gather, guest, login, quietly, shown, user, why,
};
use session_tests::{Fault, Site, on_a_cache, on_each_store};

use super::breaks::{CONFIRMATION, logs_in};
use super::stored::{account, admitted, load, load_user, names};

on_each_store!(
    a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out,
    a_user_who_is_made_again_goes_on_from_the_list_of_before,
);

on_a_cache!(a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out);

async fn a_deleted_user_starts_from_nothing_and_what_is_under_way_stays_out(site: Site) {
    let sessions = site.layer.sessions();
    for saves in [false, true] {
        for logs_in_again in [false, true] {
            let mut browser = user(&site, "ada", &[]).await;
            gather(&mut browser, 1).await;
            let (deleter, mut again) = (sessions.clone(), site.visitor());
            let late = async move |mut session: Session<Shop>| {
                deleter.delete("ada").await.unwrap();
                if logs_in_again {
                    login(&mut again, "ada").await;
                }
                add(&mut session, 2);
                if saves {
                    let _ = session.save().await.unwrap();
                    add(&mut session, 4);
                    session.refresh().await.unwrap();
                    let _ = session.save().await.unwrap();
                }
                again.id()
            };
            let reply = browser.visit(late).await;
            assert_eq!(ask(&mut browser, shown).await, NOTHING);
            assert_eq!(ask(&mut browser, why).await, "Some(Revoked)");
            let mut newer = if logs_in_again {
                browser.presenting(&reply.body)
            } else {
                let record = load_user(&site, "ada").await.unwrap();
                assert!(record.ended().is_some());
                assert_eq!(names(&record), ["@sessions"]);
                user(&site, "ada", &[]).await
            };
            let seen = ask(&mut newer, shown).await;
            assert_eq!(seen, "ada [] 0 plain", "saves: {saves}");
            gather(&mut newer, 8).await;
            assert_eq!(ask(&mut newer, shown).await, "ada [8] 8 plain");
            sessions.delete("ada").await.unwrap();
            sessions.delete("ada").await.unwrap();
        }
    }
}

async fn a_user_who_is_made_again_goes_on_from_the_list_of_before(site: Site) {
    let sessions = site.layer.sessions();
    for known in [true, false] {
        let name = format!("ada {known}");
        let ada = UserId::from(&*name);
        // A login looks, and opens; then the user is deleted, and made again by another.
        if known {
            drop(user(&site, &*name, &[1]).await);
        }
        let mut late = guest(&site, &[2]).await;
        site.store.plan_after(CONFIRMATION, [Fault::Held]);
        let under_way = logs_in(late.clone(), &name);
        site.store.until_held(1).await;
        sessions.delete(&ada).await.unwrap();
        let mut newer = user(&site, &*name, &[4]).await;
        site.store.release();
        let (_, reply) = under_way.await.unwrap();
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            reply.body
        );
        assert_eq!(quietly(&mut late, shown).await, "guest [2] 2 dark");
        assert_eq!(admitted(&site, &name).await, [newer.key()]);
        assert_eq!(
            quietly(&mut newer, shown).await,
            format!("{name} [4] 4 plain")
        );
        login(&mut late, &*name).await;
        assert_eq!(account(&site, &name).await, "[4,2] 6");
        sessions.delete(&ada).await.unwrap();
    }

    // A deletion that broke off: whoever makes the user again ends the sessions that it has left.
    let ada = UserId::from("ada");
    let mut old = user(&site, "ada", &[1]).await;
    let key = old.key();
    site.store.fail_after(2, Fault::Full, Fault::Full);
    assert!(sessions.delete(&ada).await.is_err());
    site.store.heal();
    assert!(load(&site, &key).await.unwrap().ended().is_none());
    assert_eq!(quietly(&mut old, shown).await, NOTHING);
    let mut newer = user(&site, "ada", &[4]).await;
    assert!(load(&site, &key).await.unwrap().ended().is_some());
    assert_eq!(admitted(&site, "ada").await, [newer.key()]);
    assert_eq!(quietly(&mut newer, shown).await, "ada [4] 4 plain");
}
