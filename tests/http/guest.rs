//! Fields that are a guest's alone: what somebody may have planted in a session before its owner logs in.

use std::sync::Arc;

use session_runtime::{Error, Session, WhenFull};
use session_tests::customers::{ask, quietly};
use session_tests::{Fault, Handles, Site, Visitor, on_each_store};

#[derive(Session)]
struct Shop {
    theme: String,
    #[merge(sum)]
    points: u32,
    #[session(guest)]
    token: Option<String>,
    #[session(guest, rename = "tried")]
    #[merge(sum, browser)]
    tries: u32,
    #[session(guest)]
    #[flash]
    hint: Option<String>,
}

/// Another crate's struct, which says nothing of guests.
#[derive(Session)]
#[session(prefix = "club")]
struct Club {
    badge: String,
}

async fn plant(mut session: Session<Shop>) {
    session.theme.set("dark".to_owned());
    session.points.set(3);
    session.token.set(Some("planted".to_owned()));
    session.tries.set(2);
    session.hint.set("planted".to_owned());
}

/// Says what there is of the guest's alone.
async fn guests(session: Session<Shop>) -> String {
    let (token, hint) = (session.token.get(), session.hint.peek());
    format!("{token:?} {} {hint:?}", session.tries.get())
}

const PLANTED: &str = r#"Some("planted") 2 Some("planted")"#;
const NOTHING: &str = "None 0 None";

async fn rest(session: Session<Shop>) -> String {
    format!("{} {}", session.theme.get(), session.points.get())
}

async fn login(mut session: Session<Shop>) -> Result<(), Error> {
    session.login("ada").await
}

async fn planted(site: &Site) -> Visitor {
    let mut visitor = site.visitor();
    visitor.visit(plant).await;
    assert_eq!(quietly(&mut visitor, guests).await, PLANTED);
    visitor
}

/// The names of what is stored of the session.
async fn stored(site: &Site, visitor: &Visitor) -> Vec<String> {
    let record = site.record(visitor).await.unwrap();
    let slots = record.slots().iter();
    slots.map(|slot| slot.name().as_str().to_owned()).collect()
}

on_each_store!(
    a_login_drops_what_is_the_guests_alone_and_keeps_the_rest,
    a_login_by_a_schema_that_does_not_know_it_drops_it_too,
    a_login_that_is_refused_leaves_it,
    a_request_under_way_as_its_guest_logs_in_leaves_nothing_of_it_behind,
    what_is_set_of_it_in_the_request_that_logs_in_is_gone_as_well,
    what_another_handle_sets_of_it_while_the_login_waits_is_gone_as_well,
    it_merges_between_requests_of_the_guest,
);

async fn a_login_drops_what_is_the_guests_alone_and_keeps_the_rest(site: Site) {
    let mut visitor = planted(&site).await;
    let in_the_same_request = async |mut handles: Handles| {
        let mut session = handles.open::<Shop>().await;
        session.login("ada").await.unwrap();
        assert_eq!(guests(session).await, NOTHING);
        guests(handles.open().await).await
    };
    assert_eq!(ask(&mut visitor, in_the_same_request).await, NOTHING);
    assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
    assert_eq!(quietly(&mut visitor, rest).await, "dark 3");
    let mut other = site.visitor();
    ask(&mut other, login).await;
    assert_eq!(quietly(&mut other, guests).await, NOTHING);
    // Its id has been presented: nothing can bring it back, and nothing is left of it.
    assert_eq!(stored(&site, &visitor).await, ["theme"]);

    // Whoever is logged in may have such fields, until the next login.
    let set = async |mut session: Session<Shop>| session.token.set(Some("own".to_owned()));
    quietly(&mut visitor, set).await;
    assert_eq!(quietly(&mut visitor, guests).await, r#"Some("own") 0 None"#);
    ask(&mut visitor, login).await;
    assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
    assert_eq!(quietly(&mut visitor, rest).await, "dark 3");
}

async fn a_login_by_a_schema_that_does_not_know_it_drops_it_too(site: Site) {
    let visitor = planted(&site).await;
    // A process that has never heard of the field.
    let elsewhere = site.other_process();
    let mut there = visitor.moved_to(&elsewhere);
    let login = async |mut session: Session<Club>| {
        session.badge.set("gold".to_owned());
        session.login("ada").await
    };
    ask(&mut there, login).await;
    let badge = async |session: Session<Club>| session.badge.get().clone();
    assert_eq!(quietly(&mut there, badge).await, "gold");
    let mut visitor = there.moved_to(&site.layer);
    assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
    assert_eq!(quietly(&mut visitor, rest).await, "dark 3");
}

async fn a_login_that_is_refused_leaves_it(site: Site) {
    let full = site.layer.clone().max_sessions(1, WhenFull::Refuse);
    let mut home = site.visitor().moved_to(&full);
    ask(&mut home, login).await;
    quietly(&mut home, rest).await;
    let mut visitor = planted(&site).await.moved_to(&full);
    let refused = async |mut session: Session<Shop>| {
        session.tries.set(7);
        assert!(
            session
                .login("ada")
                .await
                .unwrap_err()
                .is_too_many_sessions()
        );
        session.tries.get().to_string()
    };
    assert_eq!(quietly(&mut visitor, refused).await, "7");
    let expected = PLANTED.replace('2', "7");
    assert_eq!(quietly(&mut visitor, guests).await, expected);

    // One that is refused after it has been opened, since all of the user's sessions are revoked meanwhile, too.
    let mut visitor = planted(&site).await;
    let sessions = site.layer.sessions();
    site.store.round_trips();
    let swaps = Arc::clone(&site.store);
    let login = tokio::spawn(async move {
        let tried = async |mut session: Session<Shop>| {
            let refused = session.login("ada").await.is_err();
            refused.to_string()
        };
        swaps.plan([
            Fault::None, // the session is loaded
            Fault::None, // and the user's record
            Fault::None, // it is opened
            Fault::Held,
        ]);
        let reply = visitor.visit(tried).await;
        (reply.body, visitor)
    });
    site.store.until_held(1).await;
    sessions.revoke_all("ada").await.unwrap();
    site.store.release();
    let (refused, mut visitor) = login.await.unwrap();
    assert_eq!(refused, "true");
    assert_eq!(quietly(&mut visitor, guests).await, PLANTED);
    assert_eq!(quietly(&mut visitor, rest).await, "dark 3");
}

async fn a_request_under_way_as_its_guest_logs_in_leaves_nothing_of_it_behind(site: Site) {
    for saves in [false, true] {
        let mut visitor = planted(&site).await;
        let mut late = visitor.clone();
        let slow = async move |mut session: Session<Shop>| {
            ask(&mut visitor, login).await;
            session.token.set(Some("late".to_owned()));
            *session.tries.get_mut() += 1;
            session.hint.set("late".to_owned());
            *session.points.get_mut() += 4;
            if saves {
                session.save().await.unwrap();
            }
            assert_eq!(session.user(), None);
            visitor.id()
        };
        let id = quietly(&mut late, slow).await;
        let mut visitor = late.presenting(&id);
        assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
        let points = async |session: Session<Shop>| session.points.get().to_string();
        let points: u32 = quietly(&mut visitor, points).await.parse().unwrap();
        assert_eq!(
            points,
            if saves { 14 } else { 7 },
            "what follows the user has come"
        );
        assert_eq!(stored(&site, &visitor).await, ["theme"]);
    }
}

async fn what_is_set_of_it_in_the_request_that_logs_in_is_gone_as_well(site: Site) {
    let both = async |mut one: Session<Shop>, mut other: Session<Shop>| {
        one.token.set(Some("mine".to_owned()));
        other.hint.set("mine".to_owned());
        drop(other);
        one.login("ada").await.unwrap();
        guests(one).await
    };
    for mut visitor in [planted(&site).await, site.visitor()] {
        assert_eq!(ask(&mut visitor, both).await, NOTHING);
        assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
    }
}

async fn what_another_handle_sets_of_it_while_the_login_waits_is_gone_as_well(site: Site) {
    let mut visitor = planted(&site).await;
    let store = Arc::clone(&site.store);
    let both = async move |mut one: Session<Shop>, mut other: Session<Shop>| {
        store.plan([Fault::None, Fault::Held]); // the user's record is loaded, the session opened
        let meanwhile = async {
            store.until_held(1).await;
            other.token.set(Some("late".to_owned()));
            other.theme.set("light".to_owned());
            drop(other);
            store.release();
        };
        let (login, ()) = tokio::join!(one.login("ada"), meanwhile);
        login.unwrap();
        guests(one).await
    };
    assert_eq!(ask(&mut visitor, both).await, NOTHING);
    assert_eq!(quietly(&mut visitor, guests).await, NOTHING);
    assert_eq!(quietly(&mut visitor, rest).await, "light 3");
    assert_eq!(stored(&site, &visitor).await, ["theme"]);
}

async fn it_merges_between_requests_of_the_guest(site: Site) {
    let mut visitor = planted(&site).await;
    let mut tab = visitor.clone();
    let count = async |mut session: Session<Shop>| *session.tries.get_mut() += 1;
    let both = async move |mut session: Session<Shop>| {
        *session.tries.get_mut() += 1;
        quietly(&mut tab, count).await;
    };
    quietly(&mut visitor, both).await;
    assert_eq!(
        quietly(&mut visitor, guests).await,
        PLANTED.replace('2', "4")
    );
}

#[tokio::test]
async fn errors_and_debug_name_it_as_the_app_does() {
    let site = Site::in_memory().with(|layer| layer.max_field(64));
    let mut visitor = planted(&site).await;
    let large = async |mut session: Session<Shop>| {
        session.token.set(Some("x".repeat(100)));
        let error = session.save().await.unwrap_err();
        assert!(error.is_too_large());
        session.token.set(None);
        format!("{error} {session:?}")
    };
    let text = quietly(&mut visitor, large).await;
    assert!(
        text.contains("the field `token`") && text.contains("tried: present"),
        "{text}"
    );
    assert!(!text.contains('@'), "{text}");
    site.plant(&visitor, "@guest/tried", "[]").await;
    let odd = async |session: Session<Shop>| session.tries.try_get().unwrap_err().to_string();
    let text = quietly(&mut visitor, odd).await;
    assert!(text.contains("`tried`") && !text.contains('@'), "{text}");
}
