//! What a guest brings where it is not merged at the login: shown, credited on demand, or discarded.

use std::time::Duration;

use http::StatusCode;
use session_runtime::{Saved, Session, UserId};
use session_tests::customers::{
    Club, Shop, add, ask, club, gather, guest, join_club, login, logout, quietly, shown, user,
};
use session_tests::{Fault, Handles, Site, Visitor, on_a_cache, on_each_store};
use tokio::task::JoinSet;

use super::breaks::{CONFIRMATION, break_off, breaks};
use super::stored::{HOUR, MINUTE, MS, account, admitted, cost, holds_any, load_user, names};

on_each_store!(
    what_is_not_to_migrate_stays_set_apart_until_it_is_asked_for,
    what_an_older_version_left_is_not_to_migrate_either,
    what_is_migrated_is_credited_once_whoever_asks_and_however_often,
    what_is_discarded_is_credited_to_nobody,
    of_a_migration_and_a_discard_at_once_one_counts,
    whatever_fails_amid_a_migration_or_a_discard_it_can_be_tried_again,
    what_has_been_merged_is_not_shown_as_brought,
    what_a_late_request_sets_apart_is_shown_with_the_rest,
    a_guest_has_brought_nothing,
    refused_a_login_gives_back_what_was_not_to_migrate_either,
);

on_a_cache!(
    what_is_not_to_migrate_stays_set_apart_until_it_is_asked_for,
    what_is_migrated_is_credited_once_whoever_asks_and_however_often,
);

/// Says what was brought.
async fn brought(session: Session<Shop>) -> String {
    let (seen, points) = (session.seen.brought(), session.points.brought());
    format!("{seen:?} {points:?}")
}

async fn migrate(mut session: Session<Shop>) -> Result<String, session_runtime::Error> {
    session.migrate().await?;
    Ok(format!(
        "{:?} {:?}",
        session.seen.brought(),
        session.seen.get()
    ))
}

async fn discard(mut session: Session<Shop>) -> Result<String, session_runtime::Error> {
    session.discard().await?;
    Ok(format!(
        "{:?} {:?}",
        session.seen.brought(),
        session.seen.get()
    ))
}

const NONE: &str = "None None";

/// Somebody who has 1 logs in with a guest's 2, where nothing migrates by itself.
async fn returning(site: &Site, name: &str) -> Visitor {
    drop(user(site, name, &[1]).await);
    let mut visitor = guest(site, &[2]).await;
    login(&mut visitor, name).await;
    visitor
}

fn asks_first(site: Site) -> Site {
    site.with(|layer| layer.migrate(false))
}

async fn what_an_older_version_left_is_not_to_migrate_either(site: Site) {
    let site = asks_first(site);
    let mut visitor = user(&site, "ada", &[1]).await;
    site.plant(&visitor, "seen", "[2]").await;
    for _ in 0..2 {
        assert_eq!(quietly(&mut visitor, brought).await, "Some([2]) None");
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 plain");
    }
}

async fn what_is_not_to_migrate_stays_set_apart_until_it_is_asked_for(site: Site) {
    let site = asks_first(site);
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    join_club(&mut visitor, 3, "gold").await;
    let enter = async |mut handles: Handles| {
        handles.open::<Club>().await.badge.set("silver".to_owned());
        let mut session = handles.open::<Shop>().await;
        add(&mut session, 4);
        session.login("ada").await.unwrap();
        format!("{:?} {:?}", session.seen.brought(), session.seen.get())
    };
    let reply = visitor.visit(enter).await;
    assert_eq!(reply.body, "Some([2, 4]) [1]");
    for wait in [Duration::ZERO, MINUTE, HOUR] {
        site.clock.advance(wait);
        assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 dark");
        assert_eq!(quietly(&mut visitor, brought).await, "Some([2, 4]) Some(6)");
        assert_eq!(quietly(&mut visitor, club).await, "0 silver");
        assert_eq!(account(&site, "ada").await, "[1] 1");
        // Another login leaves it as it is; what is gathered meanwhile is the user's.
        login(&mut visitor, "ada").await;
    }
    gather(&mut visitor, 8).await;
    assert_eq!(quietly(&mut visitor, brought).await, "Some([2, 4]) Some(6)");

    // "Add these to your account?"
    assert_eq!(quietly(&mut visitor, migrate).await, "None [1, 8, 2, 4]");
    assert_eq!(quietly(&mut visitor, brought).await, NONE);
    assert_eq!(
        quietly(&mut visitor, shown).await,
        "ada [1, 8, 2, 4] 15 dark"
    );
    // Another schema's is asked for by itself.
    assert_eq!(quietly(&mut visitor, club).await, "0 silver");
    let stamps = async |mut session: Session<Club>| {
        let brought = session.stamps.brought();
        session.migrate().await.unwrap();
        format!(
            "{brought:?} {:?} {}",
            session.stamps.brought(),
            session.stamps.get()
        )
    };
    assert_eq!(quietly(&mut visitor, stamps).await, "Some(3) None 3");
    assert!(!holds_any(&site.record(&visitor).await.unwrap(), "@"));

    // A logout without an answer: it goes with the session, and to nobody.
    let mut visitor = returning(&site, "bob").await;
    ask(&mut visitor, logout).await;
    login(&mut visitor, "bob").await;
    assert_eq!(quietly(&mut visitor, brought).await, NONE);
    assert_eq!(account(&site, "bob").await, "[1] 1");
}

async fn what_is_migrated_is_credited_once_whoever_asks_and_however_often(site: Site) {
    let site = asks_first(site);
    for race in 0..10 {
        let name = format!("ada {race}");
        let mut visitor = returning(&site, &name).await;
        let mut tabs = JoinSet::new();
        for _ in 0..4 {
            let mut tab = visitor.clone();
            tabs.spawn(async move {
                for _ in 0..2 {
                    assert_eq!(ask(&mut tab, migrate).await, "None [1, 2]");
                }
            });
        }
        tabs.join_all().await;
        login(&mut visitor, &*name).await;
        assert_eq!(quietly(&mut visitor, migrate).await, "None [1, 2]");
        assert_eq!(account(&site, &name).await, "[1,2] 3");
    }
    // It is the user's swap alone, and what is credited is dropped when the request ends.
    let mut visitor = returning(&site, "ada").await;
    quietly(&mut visitor, shown).await;
    assert_eq!(cost(&site, &mut visitor, migrate).await, (2, 2));
    assert_eq!(cost(&site, &mut visitor, migrate).await, (2, 0));
    assert_eq!(cost(&site, &mut visitor, discard).await, (2, 0));
}

async fn what_is_discarded_is_credited_to_nobody(site: Site) {
    let site = asks_first(site);
    let mut visitor = returning(&site, "ada").await;
    quietly(&mut visitor, shown).await;
    assert_eq!(cost(&site, &mut visitor, discard).await, (2, 2));
    assert_eq!(quietly(&mut visitor, brought).await, NONE);
    assert!(!holds_any(&site.record(&visitor).await.unwrap(), "@"));
    for handler in [migrate_boxed, discard_boxed] {
        assert_eq!(quietly(&mut visitor, handler).await, "None [1]");
    }
    login(&mut visitor, "ada").await;
    // Nor by a layer that migrates.
    let mut elsewhere = visitor.moved_to(&site.other_process());
    assert_eq!(quietly(&mut elsewhere, shown).await, "ada [1] 1 dark");
    // What comes after that counts.
    ask(&mut visitor, logout).await;
    gather(&mut visitor, 4).await;
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, brought).await, "Some([4]) Some(4)");
    assert_eq!(quietly(&mut visitor, migrate).await, "None [1, 4]");
}

type Told = std::pin::Pin<Box<dyn Future<Output = Result<String, session_runtime::Error>> + Send>>;

fn migrate_boxed(session: Session<Shop>) -> Told {
    Box::pin(migrate(session))
}

fn discard_boxed(session: Session<Shop>) -> Told {
    Box::pin(discard(session))
}

async fn of_a_migration_and_a_discard_at_once_one_counts(site: Site) {
    let site = asks_first(site);
    let mut credited = 0;
    for (first, migrates) in [(migrate_boxed as fn(_) -> _, true), (discard_boxed, false)] {
        let name = format!("ada {credited}");
        let mut visitor = returning(&site, &name).await;
        let mut tab = visitor.clone();
        // Both know what there is.
        let second = async move |mut session: Session<Shop>| {
            assert_eq!(session.seen.brought(), Some(vec![2]));
            ask(&mut tab, first).await;
            if migrates {
                session.discard().await.unwrap();
            } else {
                session.migrate().await.unwrap();
            }
            assert_eq!(session.seen.brought(), None);
            format!("{:?}", session.seen.get())
        };
        let seen = ask(&mut visitor, second).await;
        let stored = account(&site, &name).await;
        match (&*seen, &*stored) {
            ("[1, 2]", "[1,2] 3") => credited += 1,
            ("[1]", "[1] 1") => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(quietly(&mut visitor, brought).await, NONE);
    }
    assert_eq!(credited, 1);
}

async fn whatever_fails_amid_a_migration_or_a_discard_it_can_be_tried_again(site: Site) {
    let site = asks_first(site);
    // The session, the user, the credit; that the session drops it is nobody's concern.
    for at in breaks(4) {
        for (answer, all) in [
            (migrate_boxed as fn(_) -> _, "[1,2] 3"),
            (discard_boxed, "[1] 1"),
        ] {
            let name = format!("ada {all} {at:?}");
            let mut visitor = returning(&site, &name).await;
            quietly(&mut visitor, shown).await;
            let reply = break_off(&site, &mut visitor, at, answer).await;
            let is_done = reply.status == StatusCode::OK;
            assert_eq!(is_done, at.0 == 3, "{name}: {}", reply.body);
            for _ in 0..2 {
                assert!(ask(&mut visitor, answer).await.starts_with("None"));
                assert_eq!(account(&site, &name).await, all, "{name}");
                assert_eq!(quietly(&mut visitor, brought).await, NONE);
            }
        }
    }
}

async fn what_has_been_merged_is_not_shown_as_brought(site: Site) {
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    let enter = async |mut session: Session<Shop>| {
        add(&mut session, 4);
        session.login("ada").await.unwrap();
        format!(
            "{:?} {:?}",
            session.seen.brought(),
            session.points.brought()
        )
    };
    assert_eq!(visitor.visit(enter).await.body, NONE);
    assert_eq!(quietly(&mut visitor, brought).await, NONE);
    assert_eq!(quietly(&mut visitor, migrate).await, "None [1, 2, 4]");
    assert_eq!(quietly(&mut visitor, discard).await, "None [1, 2, 4]");
    assert_eq!(account(&site, "ada").await, "[1,2,4] 7");
}

async fn what_a_late_request_sets_apart_is_shown_with_the_rest(site: Site) {
    let site = asks_first(site);
    let mut ada = user(&site, "ada", &[1]).await;
    let mut visitor = guest(&site, &[2]).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        login(&mut tab, "ada").await;
        for number in [4, 8] {
            add(&mut session, number);
            assert_eq!(session.save().await.unwrap(), Saved::Written);
        }
        tab.id()
    };
    let id = quietly(&mut visitor, late).await;
    let mut tab = visitor.presenting(&id);
    assert_eq!(quietly(&mut tab, brought).await, "Some([2, 4, 8]) Some(14)");
    assert_eq!(
        quietly(&mut ada, brought).await,
        NONE,
        "it is in that browser"
    );
    gather(&mut ada, 16).await;
    assert_eq!(ask(&mut tab, migrate).await.split(' ').count(), 6);
    let stored = account(&site, "ada").await;
    assert!(stored.ends_with(" 31"), "{stored}");
    assert_eq!(quietly(&mut tab, brought).await, NONE);
}

async fn a_guest_has_brought_nothing(site: Site) {
    for migrates in [true, false] {
        let layer = site.layer.clone().migrate(migrates);
        let mut visitor = guest(&site, &[1]).await.moved_to(&layer);
        let before = site.record(&visitor).await;
        assert_eq!(quietly(&mut visitor, brought).await, NONE);
        for handler in [migrate_boxed, discard_boxed] {
            assert_eq!(quietly(&mut visitor, handler).await, "None [1]");
        }
        assert_eq!(site.record(&visitor).await, before);
    }
    assert_eq!(quietly(&mut site.visitor(), migrate).await, "None []");
}

async fn refused_a_login_gives_back_what_was_not_to_migrate_either(site: Site) {
    let site = asks_first(site);
    let mut visitor = returning(&site, "ada").await;
    // A login of the same user, refused: there is nothing to give back to the user's session.
    site.store.plan_after(CONFIRMATION + 1, [Fault::Full]);
    let again = async |mut session: Session<Shop>| session.login("ada").await;
    let reply = visitor.visit(again).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(quietly(&mut visitor, brought).await, "Some([2]) Some(2)");
    // A guest's.
    let mut visitor = guest(&site, &[2]).await;
    site.store.plan_after(CONFIRMATION, [Fault::Full]);
    let reply = visitor.visit(again).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(quietly(&mut visitor, shown).await, "guest [2] 2 dark");
    assert_eq!(quietly(&mut visitor, brought).await, NONE);
    login(&mut visitor, "ada").await;
    assert_eq!(quietly(&mut visitor, brought).await, "Some([2]) Some(2)");
}

/// Something that is good for a quarter of an hour.
#[derive(Session)]
struct Offers {
    #[merge(user)]
    #[expire("15m")]
    coupon: Option<String>,
}

#[tokio::test]
async fn what_is_set_apart_expires_as_it_would_have() {
    let offer = async |mut session: Session<Offers>| session.coupon.set(Some("five".to_owned()));
    let enter = async |mut session: Session<Offers>| session.login("ada").await;
    let coupon = async |session: Session<Offers>| {
        format!("{:?} {:?}", session.coupon.brought(), session.coupon.get())
    };
    let migrate = async |mut session: Session<Offers>| session.migrate().await;
    for (wait, expected) in [(15 * MINUTE - MS, true), (15 * MINUTE, false)] {
        let site = asks_first(Site::in_memory());
        let mut visitor = site.visitor();
        visitor.visit(offer).await;
        visitor.visit(enter).await;
        site.clock.advance(wait);
        let seen = quietly(&mut visitor, coupon).await;
        let (some, none) = ("Some(Some(\"five\")) None", "None None");
        assert_eq!(seen, if expected { some } else { none });
        quietly(&mut visitor, migrate).await;
        let seen = quietly(&mut visitor, coupon).await;
        assert_eq!(
            seen,
            if expected {
                "None Some(\"five\")"
            } else {
                none
            }
        );
        // And it goes on from there.
        site.clock.advance(MS);
        assert_eq!(quietly(&mut visitor, coupon).await, none);
        let ada = load_user(&site, "ada").await.unwrap();
        assert_eq!(names(&ada).contains(&"coupon"), expected);
    }
}

#[tokio::test]
async fn a_session_that_was_revoked_migrates_nothing() {
    let site = asks_first(Site::in_memory());
    for deleted in [false, true] {
        let mut visitor = returning(&site, "ada").await;
        let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
        let late = async move |mut session: Session<Shop>| {
            if deleted {
                sessions.delete(&ada).await.unwrap();
            } else {
                sessions.revoke_all(&ada).await.unwrap();
            }
            session.migrate().await.unwrap();
        };
        quietly(&mut visitor, late).await;
        assert_eq!(
            account(&site, "ada").await,
            if deleted { " " } else { "[1] 1" }
        );
        assert!(admitted(&site, "ada").await.is_empty());
    }
}
