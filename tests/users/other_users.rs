//! Logging in as another user than before, or than another tab does.

use std::time::Duration;

use http::StatusCode;
use session_runtime::{Saved, Session, UserId};
use session_tests::customers::{
    Club, NOTHING, Shop, add, club, entering, gather, guest, join_club, login, quietly, shown,
    user, why,
};
use session_tests::{Handles, Site, on_each_store};

use super::breaks::{break_login, break_off, breaks, calls};
use super::stored::{HOUR, MINUTE, MS, SECOND, account, admitted, load_user, names};

on_each_store!(
    a_login_as_another_user_starts_clean,
    what_is_said_before_the_login_as_another_user_is_said_of_that_ones_session,
    a_login_as_another_user_ends_the_first_ones_session_whatever_came_before,
    what_waits_for_one_user_is_taken_by_no_other,
    what_a_request_set_apart_for_the_first_user_is_not_lost_to_the_second,
    what_a_request_changed_goes_along_though_another_tab_made_its_guest_another_user,
    what_a_request_of_the_first_user_saved_is_the_first_users,
    what_is_set_under_an_id_of_before_the_first_users_login_is_the_second_users,
);

async fn a_login_as_another_user_starts_clean(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 3, "gold").await;
    let note = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    visitor.visit(note).await;
    login(&mut visitor, "ada").await;
    let mut old = visitor.clone();
    let change = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.theme.set("loud".to_owned());
        session.login("bob").await.unwrap();
        assert_eq!(session.user(), Some("bob".into()));
        assert_eq!((session.seen.get().len(), session.points.get()), (0, &0));
        assert_eq!(session.theme.get(), "plain");
        assert_eq!(session.notice.peek(), &None);
        assert_eq!(session.created_at(), session.authenticated_at());
    };
    site.clock.advance(SECOND);
    assert_eq!(visitor.visit(change).await.set_cookies().len(), 1);
    assert_ne!(visitor.key(), old.key());
    site.clock.advance(HOUR);
    assert_eq!(quietly(&mut visitor, shown).await, "bob [] 0 plain");
    assert_eq!(quietly(&mut visitor, club).await, "0 ");
    assert!(names(&site.record(&visitor).await.unwrap()).is_empty());
    let bob = load_user(&site, "bob").await.unwrap();
    assert_eq!(names(&bob), ["@sessions"]);
    assert_eq!(admitted(&site, "bob").await, [visitor.key()]);

    // What was changed before was the first user's, whose session is over.
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert!(admitted(&site, "ada").await.is_empty());
    assert!(site.record(&old).await.unwrap().ended().is_some());
    assert_eq!(quietly(&mut old, shown).await, NOTHING);
}

/// On a computer that two share: the second is not to be remembered.
async fn what_is_said_before_the_login_as_another_user_is_said_of_that_ones_session(site: Site) {
    let mut visitor = user(&site, "ada", &[]).await;
    let enter = async |mut session: Session<Shop>| {
        session.remember(false);
        session.set_ttl(MINUTE);
        session.login("bob").await
    };
    let reply = visitor.visit(enter).await;
    let cookies = reply.set_cookies();
    assert!(!cookies[0].contains("Max-Age"), "{cookies:?}");
    let expires = site.record(&visitor).await.unwrap().expires();
    assert_eq!(expires, site.now() + MINUTE);
}

async fn a_login_as_another_user_ends_the_first_ones_session_whatever_came_before(site: Site) {
    let mut ended = 0;
    for at in breaks(1 + calls(&site).await) {
        let name = format!("ada {at:?}");
        let mut visitor = user(&site, &*name, &[]).await;
        let mut old = visitor.clone();
        let reply = break_off(&site, &mut visitor, at, entering(&*name)).await;
        assert!(reply.set_cookies().is_empty(), "{at:?}");
        login(&mut visitor, "bob").await;
        ended += usize::from(site.record(&old).await.unwrap().ended().is_some());
        // The client has a newer id, which nothing that is late may take away.
        for wait in [Duration::ZERO, 5 * MINUTE - MS] {
            site.clock.advance(wait);
            assert_eq!(quietly(&mut old, shown).await, NOTHING, "{at:?}");
            assert_eq!(quietly(&mut old, why).await, "Some(LoggedIn)", "{at:?}");
            let reply = gather(&mut old, 9).await;
            assert!(reply.set_cookies().is_empty(), "{at:?}");
        }
        assert_eq!(quietly(&mut visitor, shown).await, "bob [] 0 plain");
    }
    assert!(
        ended > 5,
        "{ended}: all of those that could still be opened"
    );
}

async fn what_waits_for_one_user_is_taken_by_no_other(site: Site) {
    let (mut waited, mut untouched) = (0, 0);
    for at in breaks(calls(&site).await) {
        let name = format!("ada {at:?}");
        let (mut visitor, mut old) = break_login(&site, &name, at).await;
        let is_opened = site.record(&visitor).await.unwrap().user().is_some();
        let other = format!("bob {at:?}");
        login(&mut visitor, &*other).await;
        let seen = quietly(&mut visitor, shown).await;
        if !is_opened {
            untouched += 1;
            assert_eq!(seen, format!("{other} [2] 2 dark"));
            assert_eq!(account(&site, &name).await, "[1] 1");
            continue;
        }
        waited += 1;
        assert_eq!(seen, format!("{other} [] 0 plain"));
        // Who logs in under the id from before goes on from there.
        login(&mut old, &*name).await;
        let seen = quietly(&mut old, shown).await;
        assert_eq!(seen, format!("{name} [1, 2] 3 dark"));
        assert_eq!(account(&site, &other).await, " ");
    }
    assert!(waited > 3 && untouched > 3, "{waited} {untouched}");
}

/// Nothing of it follows the user.
#[derive(Session)]
struct Door {
    knocks: u32,
}

async fn what_a_request_set_apart_for_the_first_user_is_not_lost_to_the_second(site: Site) {
    for knows in [true, false] {
        let (ada, bob) = (format!("ada {knows}"), format!("bob {knows}"));
        let mut visitor = guest(&site, &[1]).await;
        let (mut tab, user) = (visitor.clone(), ada.clone());
        let late = async move |mut session: Session<Shop>| {
            login(&mut tab, &*user).await;
            add(&mut session, 2);
            assert_eq!(session.save().await.unwrap(), Saved::Written);
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        let mut visitor = visitor.presenting(&id);
        let user = UserId::from(&*bob);
        let reply = if knows {
            visitor.visit(entering(user)).await
        } else {
            let enter = async move |mut session: Session<Door>| session.login(user).await;
            visitor.visit(enter).await
        };
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{bob} [] 0 plain"));
        assert_eq!(account(&site, &ada).await, "[1,2] 3", "{knows}");
        assert!(admitted(&site, &ada).await.is_empty());
    }
}

async fn what_a_request_changed_goes_along_though_another_tab_made_its_guest_another_user(
    site: Site,
) {
    let mut visitor = guest(&site, &[1]).await;
    join_club(&mut visitor, 1, "silver").await;
    let mut tab = visitor.clone();
    let change = async move |mut handles: Handles| {
        let mut other = handles.open::<Club>().await;
        *other.stamps.get_mut() += 2;
        other.badge.set("gold".to_owned());
        drop(other);
        let mut session = handles.open::<Shop>().await;
        add(&mut session, 2);
        session.theme.set("loud".to_owned());
        session.set_ttl(4 * HOUR);
        login(&mut tab, "bob").await;
        session.login("ada").await.unwrap();
        tab.id()
    };
    let reply = visitor.visit(change).await;
    assert_eq!(
        (reply.status, reply.set_cookies().len()),
        (StatusCode::OK, 1)
    );
    // What the guest had is bob's, and what the request has added ada's.
    let mut tab = visitor.presenting(&reply.body);
    assert_ne!(tab.key(), visitor.key());
    assert_eq!(quietly(&mut tab, shown).await, "bob [1] 1 dark");
    assert_eq!(quietly(&mut tab, club).await, "1 silver");
    assert_eq!(quietly(&mut visitor, shown).await, "ada [2] 2 loud");
    assert_eq!(quietly(&mut visitor, club).await, "2 gold");
    site.clock.advance(4 * HOUR - MS);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [2] 2 loud");
}

async fn what_a_request_of_the_first_user_saved_is_the_first_users(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        add(&mut session, 2);
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        login(&mut tab, "bob").await;
        // Ada has left: it is nobody's any more.
        add(&mut session, 4);
        session.theme.set("loud".to_owned());
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        tab.id()
    };
    let id = quietly(&mut visitor, late).await;
    let mut tab = visitor.presenting(&id);
    assert_eq!(quietly(&mut tab, shown).await, "bob [] 0 plain");
    assert_eq!(account(&site, "ada").await, "[1,2] 3");
    assert_eq!(account(&site, "bob").await, " ");
}

async fn what_is_set_under_an_id_of_before_the_first_users_login_is_the_second_users(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    let mut old = visitor.clone();
    login(&mut visitor, "ada").await;
    quietly(&mut visitor, shown).await;
    let enter = async |mut session: Session<Shop>| {
        add(&mut session, 2);
        session.login("bob").await
    };
    assert_eq!(old.visit(enter).await.status, StatusCode::OK);
    assert_eq!(account(&site, "bob").await, "[2] 2");
    assert_eq!(account(&site, "ada").await, "[1] 1");
}
