//! Requests that are under way while their session is logged in, logged out, or ended.

use std::sync::Arc;

use http::StatusCode;
use session_runtime::testing::TestClock;
use session_runtime::{Ended, Saved, Session, Sessions, UserId};
use session_tests::customers::{
    NOTHING, Shop, add, ask, gather, guest, login, logout, paint, quietly, rotate, shown, user,
};
use session_tests::{Fault, Site, Visitor, on_a_cache, on_each_store, times};
use tokio::sync::Barrier;

use super::stored::{HOUR, MINUTE, MS, account, admitted, holds_any, list, names};

on_each_store!(
    what_a_request_adds_while_its_guest_logs_in_reaches_the_user,
    what_a_late_request_changed_of_what_follows_is_credited_by_the_logins_rule,
    what_a_late_request_changed_is_no_more_than_that_though_what_it_had_loaded_has_expired,
    a_late_request_writes_of_the_browsers_fields_what_has_a_rule_and_nothing_of_a_guests_alone,
    a_late_request_never_shows_what_came_after,
    what_came_between_a_write_and_its_answer_is_not_shown,
    what_late_requests_set_apart_has_no_more_room_than_anything,
    a_late_request_whose_id_is_forgotten_writes_nothing,
    a_minute_after_the_new_id_came_back_a_late_request_writes_nothing,
    what_was_changed_counts_together_or_not_at_all,
    no_half_is_written_while_all_sessions_are_being_revoked,
    a_late_commit_that_races_a_logout_revives_nothing,
    a_request_that_finds_its_place_gone_begins_nothing_over_a_newer_login,
);

on_a_cache!(
    what_a_request_adds_while_its_guest_logs_in_reaches_the_user,
    what_was_changed_counts_together_or_not_at_all,
);

async fn what_a_request_adds_while_its_guest_logs_in_reaches_the_user(site: Site) {
    for race in 0..(250 * times()).min(1000) {
        let name = format!("ada {race}");
        let one = guest(&site, &[1]).await;
        // Both have loaded the guest before either goes on; in some races one of them is then let wait.
        let barrier = Arc::new(Barrier::new(2));
        let wait = async |barrier: &Barrier, yields: usize| {
            barrier.wait().await;
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
        };
        let [mut tab, mut late] = [one.clone(), one.clone()];
        let (ready, user) = (Arc::clone(&barrier), UserId::from(&*name));
        let enter = async move |mut session: Session<Shop>| {
            wait(&ready, race % 5).await;
            session.login(user).await
        };
        let entering = tokio::spawn(async move { (tab.visit(enter).await, tab) });
        let adds = async move |mut session: Session<Shop>| {
            wait(&barrier, race / 5 % 5).await;
            add(&mut session, 2);
            assert_eq!(session.save().await.unwrap(), Saved::Written);
            add(&mut session, 4);
        };
        quietly(&mut late, adds).await;
        let (entered, mut tab) = entering.await.unwrap();
        assert_eq!(entered.status, StatusCode::OK, "{}", entered.body);
        let seen = quietly(&mut tab, shown).await;
        assert_eq!(seen, format!("{name} [1, 2, 4] 7 dark"));
        assert_eq!(account(&site, &name).await, "[1,2,4] 7");
        assert_eq!(quietly(&mut late, shown).await, NOTHING);
        let settled = site.record(&tab).await.unwrap();
        assert_eq!(names(&settled), ["theme"]);
    }
}

/// Every kind of field.
#[derive(Session)]
struct Desk {
    #[session(default = "plain".to_owned())]
    theme: String,
    #[merge(sum, browser)]
    tries: u32,
    #[session(guest)]
    token: u32,
    #[flash]
    notice: Option<u32>,
    #[merge(append)]
    seen: Vec<u32>,
    #[merge(sum)]
    points: u32,
    #[merge(user)]
    currency: u32,
    #[merge(guest)]
    address: u32,
}

async fn desk(session: Session<Desk>) -> String {
    format!(
        "{} tries {} token {} notice {:?} seen {:?} points {} currency {} address {}",
        session.theme.get(),
        session.tries.get(),
        session.token.get(),
        session.notice.peek(),
        session.seen.get(),
        session.points.get(),
        session.currency.get(),
        session.address.get(),
    )
}

/// Has `user` log in in another tab.
async fn enter_desk(tab: &mut Visitor, user: &str) {
    let user = UserId::from(user);
    let enter = async move |mut session: Session<Desk>| session.login(user).await;
    let reply = tab.visit(enter).await;
    assert_eq!(
        (reply.status, reply.set_cookies().len()),
        (StatusCode::OK, 1)
    );
}

async fn what_a_late_request_changed_of_what_follows_is_credited_by_the_logins_rule(site: Site) {
    let mut account = site.visitor();
    let has = async |mut session: Session<Desk>| {
        session.seen.set(vec![7]);
        session.points.set(100);
        session.currency.set(7);
        session.address.set(7);
    };
    enter_desk(&mut account, "ada").await;
    quietly(&mut account, has).await;
    let mut visitor = site.visitor();
    let begin = async |mut session: Session<Desk>| {
        session.seen.set(vec![1, 2]);
        session.points.set(10);
        session.theme.set("dark".to_owned());
    };
    visitor.visit(begin).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Desk>| {
        enter_desk(&mut tab, "ada").await;
        session.seen.get_mut().push(3);
        *session.points.get_mut() -= 4; // of its own ten
        session.currency.set(3);
        session.address.set(3);
        tab.id()
    };
    let id = quietly(&mut visitor, late).await;
    let mut tab = visitor.presenting(&id);
    let waits = site.record(&tab).await.unwrap();
    assert!(
        holds_any(&waits, "@before/2/seen"),
        "what it had loaded is the base"
    );
    assert_eq!(
        quietly(&mut tab, desk).await,
        "dark tries 0 token 0 notice None seen [7, 1, 2, 3] points 106 currency 7 address 3"
    );
    assert_eq!(names(&site.record(&tab).await.unwrap()), ["theme"]);
}

/// Points that last for a quarter of an hour.
#[derive(Session)]
struct Game {
    #[merge(sum)]
    #[expire("15m")]
    points: u32,
    #[merge(append)]
    #[expire("15m")]
    moves: Vec<u32>,
}

async fn game(session: Session<Game>) -> String {
    format!("{} {:?}", session.points.get(), session.moves.get())
}

async fn play(visitor: &mut Visitor, points: u32) {
    let play = async move |mut session: Session<Game>| {
        *session.points.get_mut() += points;
        session.moves.get_mut().push(points);
    };
    assert_eq!(visitor.visit(play).await.status, StatusCode::OK);
}

async fn what_a_late_request_changed_is_no_more_than_that_though_what_it_had_loaded_has_expired(
    site: Site,
) {
    // Both live on; only what it had loaded does; neither does.
    let cases = [
        (15 * MINUTE, "107 [100, 5, 2]"),
        (MINUTE, "105 [100, 5]"),
        (MS, "105 [100, 5]"),
    ];
    for (lasts, expected) in cases {
        let mut visitor = site.visitor();
        play(&mut visitor, 5).await;
        site.clock.advance(10 * MINUTE);
        let mut ada = site.visitor();
        let enter = async |mut session: Session<Game>| session.login("ada").await;
        ada.visit(enter).await;
        play(&mut ada, 100).await;
        let mut tab = visitor.clone();
        let late = async move |mut session: Session<Game>| {
            assert_eq!(tab.visit(enter).await.status, StatusCode::OK);
            session.points.set(7);
            session.moves.get_mut().push(2);
            session.points.expire_in(lasts);
            session.moves.expire_in(lasts);
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        // What the guest had is with ada's by now, and good for as long.
        site.clock.advance(if lasts == MINUTE {
            2 * MINUTE
        } else {
            6 * MINUTE
        });
        let mut tab = visitor.presenting(&id);
        assert_eq!(quietly(&mut tab, game).await, expected, "{lasts:?}");
        site.layer.sessions().delete("ada").await.unwrap();
    }
}

async fn a_late_request_writes_of_the_browsers_fields_what_has_a_rule_and_nothing_of_a_guests_alone(
    site: Site,
) {
    for only_those in [false, true] {
        let mut visitor = site.visitor();
        let begin = async |mut session: Session<Desk>| {
            session.theme.set("dark".to_owned());
            session.tries.set(1);
            session.token.set(1);
        };
        visitor.visit(begin).await;
        let mut tab = visitor.clone();
        let late = async move |mut session: Session<Desk>| {
            enter_desk(&mut tab, "ada").await;
            let more = async |mut session: Session<Desk>| {
                assert_eq!(session.token.get(), &0);
                session.tries.set(10);
            };
            quietly(&mut tab, more).await;
            session.theme.set("late".to_owned());
            session.token.set(2);
            session.notice.set(2);
            session.set_ttl(MINUTE);
            if !only_those {
                *session.tries.get_mut() += 2;
            }
            let saved = session.save().await.unwrap();
            assert_eq!(saved == Saved::Unchanged, only_those, "{saved:?}");
            session.rotate().await.unwrap();
            // It goes on as it was.
            assert_eq!(
                (session.theme.get().as_str(), session.token.get()),
                ("late", &2)
            );
            session.delete("over").await.unwrap();
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        let mut tab = visitor.presenting(&id);
        site.clock.advance(HOUR);
        let tries = if only_those { 10 } else { 12 };
        assert_eq!(
            quietly(&mut tab, desk).await,
            format!("dark tries {tries} token 0 notice None seen [] points 0 currency 0 address 0")
        );
        assert!(!holds_any(&site.record(&tab).await.unwrap(), "@"));
    }
}

/// The guest logs in elsewhere after the write and before it is asked for again: what is there then is the user's.
async fn what_came_between_a_write_and_its_answer_is_not_shown(site: Site) {
    for what in ["save", "rotate", "claim"] {
        let mut visitor = guest(&site, &[1]).await;
        let notice = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
        quietly(&mut visitor, notice).await;
        let (mut tab, store) = (visitor.clone(), Arc::clone(&site.store));
        let name = format!("ada {what}");
        let user = UserId::from(&*name);
        let late = async move |mut session: Session<Shop>| {
            if what != "claim" {
                add(&mut session, 2);
            }
            store.plan([Fault::After, Fault::Held]);
            let write = async {
                match what {
                    "save" => session.save().await.map(drop),
                    "rotate" => session.rotate().await,
                    _ => session.notice.claim().await.map(|notice| {
                        assert_eq!(notice.flatten().as_deref(), Some("Hello"));
                    }),
                }
            };
            let meanwhile = async {
                store.until_held(1).await;
                login(&mut tab, user).await;
                gather(&mut tab, 100).await;
                paint(&mut tab, "secret").await;
                store.release();
            };
            let (written, ()) = tokio::join!(write, meanwhile);
            written.unwrap();
            session.refresh().await.unwrap();
            assert_eq!(session.user(), None, "{what}");
            assert_eq!(session.notice.peek().is_some(), what != "claim");
            add(&mut session, 4);
            session.theme.set("late".to_owned());
            assert_eq!(session.save().await.unwrap(), Saved::Written);
            format!(
                "{} {:?} {}",
                tab.id(),
                session.seen.get(),
                session.theme.get()
            )
        };
        let reply = quietly(&mut visitor, late).await;
        let (id, seen) = reply.split_once(' ').expect("an id");
        let (gathered, all) = match what {
            "claim" => ("[1, 4]", "[1, 100, 4] 105"),
            _ => ("[1, 2, 4]", "[1, 2, 100, 4] 107"),
        };
        assert_eq!(seen, format!("{gathered} late"), "{what}");
        let account = quietly(&mut visitor.presenting(id), shown).await;
        assert_eq!(account, format!("{name} {all} secret"));
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING, "{what}");
    }
}

async fn a_late_request_never_shows_what_came_after(site: Site) {
    let mut ada = user(&site, "ada", &[100]).await;
    let notice = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    let mut visitor = guest(&site, &[1]).await;
    quietly(&mut visitor, notice).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        login(&mut tab, "ada").await;
        gather(&mut tab, 200).await;
        let mut seen = Vec::new();
        let mut look = |session: &Session<Shop>| {
            let (has, points) = (session.seen.get(), session.points.get());
            seen.push(format!("{:?} {has:?} {points}", session.user()));
        };
        look(&session);
        add(&mut session, 2);
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        look(&session);
        add(&mut session, 4);
        assert_eq!(session.save().await.unwrap(), Saved::Written);
        look(&session);
        assert_eq!(
            session.notice.claim().await.unwrap(),
            None,
            "it is the user's to see"
        );
        session.refresh().await.unwrap();
        look(&session);
        seen.join(", ")
    };
    let seen = quietly(&mut visitor, late).await;
    let all = "None [1] 1, None [1, 2] 3, None [1, 2, 4] 7, None [1, 2, 4] 7";
    assert_eq!(seen, all);
    assert_eq!(
        quietly(&mut ada, shown).await,
        "ada [100, 1, 200] 301 plain"
    );
}

async fn what_late_requests_set_apart_has_no_more_room_than_anything(site: Site) {
    let site = site.with(|layer| layer.max_record(1000));
    let mut visitor = guest(&site, &[1]).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        login(&mut tab, "ada").await;
        for number in 0..20 {
            session.seen.set(vec![100_000_000 + number; 10]);
            if let Err(error) = session.save().await {
                assert!(error.is_too_large(), "{error}");
                session.seen.set(vec![99_999_999 + number; 10]); // as before
                return (StatusCode::PAYLOAD_TOO_LARGE, tab.id());
            }
        }
        (StatusCode::OK, tab.id())
    };
    let reply = visitor.visit(late).await;
    let tab = visitor.presenting(&reply.body);
    let record = site.record(&tab).await.unwrap();
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!((800..=1000).contains(&record.size()));
}

async fn a_late_request_whose_id_is_forgotten_writes_nothing(site: Site) {
    let mut visitor = guest(&site, &[1]).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        for _ in 0..17 {
            login(&mut tab, "ada").await;
        }
        session.theme.set("late".to_owned());
        add(&mut session, 2);
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        tab.id()
    };
    let id = quietly(&mut visitor, late).await;
    let mut tab = visitor.presenting(&id);
    assert_eq!(quietly(&mut tab, shown).await, "ada [1] 1 dark");
}

async fn a_minute_after_the_new_id_came_back_a_late_request_writes_nothing(site: Site) {
    for (wait, presents, expected) in [
        (HOUR, false, Saved::Written),
        (MINUTE - MS, true, Saved::Written),
        (MINUTE, true, Saved::Ended),
    ] {
        let name = format!("ada {wait:?}");
        let mut visitor = guest(&site, &[1]).await;
        let (mut tab, user, clock) = (visitor.clone(), name.clone(), site.clock.clone());
        let late = async move |mut session: Session<Shop>| {
            login(&mut tab, &*user).await;
            if presents {
                quietly(&mut tab, shown).await;
            }
            clock.advance(wait);
            add(&mut session, 2);
            assert_eq!(session.save().await.unwrap(), expected);
            add(&mut session, 4);
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        let mut tab = visitor.presenting(&id);
        let all = if expected == Saved::Written {
            "[1, 2, 4] 7"
        } else {
            "[1] 1"
        };
        let seen = quietly(&mut tab, shown).await;
        assert_eq!(seen, format!("{name} {all} dark"));
    }
}

/// What happens to a session while a request of its user changes it, and the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    LoggedOut,
    Deleted,
    Revoked,
    OthersRevoked,
    AllRevoked,
    UserDeleted,
    AnotherLoggedIn,
    /// Idle for as long as it may be.
    IdledOut,
    IdledOutLongAgo,
    Rotated,
    RotatedLongAgo,
    LoggedInAgain,
    LoggedInAgainLongAgo,
}

const TURNS: [(Turn, bool); 13] = [
    (Turn::LoggedOut, false),
    (Turn::Deleted, false),
    (Turn::Revoked, false),
    (Turn::OthersRevoked, false),
    (Turn::AllRevoked, false),
    (Turn::UserDeleted, false),
    (Turn::AnotherLoggedIn, false),
    (Turn::IdledOut, true),
    (Turn::IdledOutLongAgo, false),
    (Turn::Rotated, true),
    (Turn::RotatedLongAgo, true),
    (Turn::LoggedInAgain, true),
    (Turn::LoggedInAgainLongAgo, false),
];

impl Turn {
    /// Lets it happen to the session that `tab` has the id of.
    async fn happen(
        self,
        tab: &mut Visitor,
        sessions: &Sessions,
        (user, others): (&UserId, &str),
        clock: &TestClock,
    ) {
        let device = async |session: Session<Shop>| session.device().unwrap_or_default();
        let forget = async |mut session: Session<Shop>| session.delete("forget me").await;
        let own = ask(tab, device).await;
        match self {
            Self::LoggedOut => drop(ask(tab, logout).await),
            Self::Deleted => drop(ask(tab, forget).await),
            Self::Revoked => assert!(sessions.revoke(user, &own).await.unwrap()),
            Self::OthersRevoked => drop(sessions.revoke_others(user, others).await.unwrap()),
            Self::AllRevoked => drop(sessions.revoke_all(user).await.unwrap()),
            Self::UserDeleted => sessions.delete(user).await.unwrap(),
            Self::AnotherLoggedIn => login(tab, "bob").await,
            Self::IdledOut => clock.advance(2 * HOUR + 10 * MINUTE - MS),
            Self::IdledOutLongAgo => clock.advance(2 * HOUR + 10 * MINUTE),
            Self::Rotated | Self::RotatedLongAgo => drop(ask(tab, rotate).await),
            Self::LoggedInAgain | Self::LoggedInAgainLongAgo => login(tab, user.clone()).await,
        }
        if [Self::RotatedLongAgo, Self::LoggedInAgainLongAgo].contains(&self) {
            quietly(tab, shown).await;
            clock.advance(MINUTE);
        }
    }
}

async fn what_was_changed_counts_together_or_not_at_all(site: Site) {
    let device = async |session: Session<Shop>| session.device().unwrap_or_default();
    for (turn, counts) in TURNS {
        for saves in [false, true] {
            let name = format!("ada {turn:?} {saves}");
            let mut other = user(&site, &*name, &[1]).await;
            let other_device = ask(&mut other, device).await;
            let mut visitor = user(&site, &*name, &[]).await;
            quietly(&mut visitor, shown).await;
            let (mut tab, sessions) = (visitor.clone(), site.layer.sessions());
            let (ada, clock) = (UserId::from(&*name), site.clock.clone());
            let late = async move |mut session: Session<Shop>| {
                turn.happen(&mut tab, &sessions, (&ada, &other_device), &clock)
                    .await;
                session.theme.set("late".to_owned());
                add(&mut session, 2);
                if saves {
                    let told = if counts { Saved::Written } else { Saved::Ended };
                    assert_eq!(session.save().await.unwrap(), told, "{turn:?}");
                }
                tab.id()
            };
            let id = quietly(&mut visitor, late).await;
            let record = site.record(&visitor).await.unwrap();
            assert_eq!(record.slot("theme").is_some(), counts, "{name}");
            let expected = match (turn, counts) {
                (Turn::UserDeleted, _) => " ",
                (_, true) => "[1,2] 3",
                (_, false) => "[1] 1",
            };
            assert_eq!(account(&site, &name).await, expected, "{name}");
            if counts && !id.is_empty() {
                let seen = quietly(&mut visitor.presenting(&id), shown).await;
                assert_eq!(seen, format!("{name} [1, 2] 3 late"));
            }
        }
    }
}

async fn no_half_is_written_while_all_sessions_are_being_revoked(site: Site) {
    for fails in [false, true] {
        let name = format!("ada {fails}");
        let mut visitor = user(&site, &*name, &[1]).await;
        quietly(&mut visitor, shown).await;
        let (sessions, ada) = (site.layer.sessions(), UserId::from(&*name));
        let store = Arc::clone(&site.store);
        let late = async move |mut session: Session<Shop>| {
            // All places are marked, and no session is ended yet: the user is looked up, marked; the session.
            store.plan([Fault::None, Fault::None, Fault::Held]);
            let revoking = tokio::spawn(async move { sessions.revoke_all(&ada).await });
            store.until_held(1).await;
            session.theme.set("late".to_owned());
            add(&mut session, 2);
            assert_eq!(session.save().await.unwrap(), Saved::Ended);
            if fails {
                store.always(Some(Fault::Full));
            }
            store.release();
            let revoked = revoking.await.unwrap();
            store.heal();
            assert_eq!(revoked.is_err(), fails);
        };
        quietly(&mut visitor, late).await;
        assert_eq!(account(&site, &name).await, "[1] 1");
        assert_eq!(quietly(&mut visitor, shown).await, NOTHING);
        assert!(admitted(&site, &name).await.is_empty());
        assert!(list(&site, &name).await.is_empty());
        assert!(site.record(&visitor).await.unwrap().ended().is_some());
    }
}

/// Requests that log out and that write, both of which have loaded the session.
async fn logouts_that_race(site: Site, races: usize) {
    let mut points = 0;
    for race in 0..races {
        let visitor = user(&site, "ada", &[]).await;
        let loaded = Arc::new(Barrier::new(2));
        let [mut one, mut other] = [visitor.clone(), visitor.clone()];
        let ready = Arc::clone(&loaded);
        let leaves = async move |mut session: Session<Shop>| {
            ready.wait().await;
            session.logout().await
        };
        let leaving = tokio::spawn(async move { (one.visit(leaves).await, one) });
        let writes = async move |mut session: Session<Shop>| {
            loaded.wait().await;
            for _ in 0..race % 4 {
                tokio::task::yield_now().await;
            }
            session.theme.set("late".to_owned());
            session.notice.set("late".to_owned());
            *session.points.get_mut() += 1;
            format!("{:?}", session.save().await.unwrap())
        };
        let wrote = quietly(&mut other, writes).await;
        let (left, one) = leaving.await.expect("the request ends well");
        assert_eq!(left.status, StatusCode::OK);
        assert_eq!(one.browser.id(), None);
        points += usize::from(wrote == "Written");
        assert!(["Written", "Ended"].contains(&&*wrote), "{wrote}");
        let record = site.record(&visitor).await.expect("a tombstone is left");
        assert_eq!(record.ended(), Some(&Ended::LoggedOut));
        assert_eq!(record.slots(), []);
        assert_eq!(quietly(&mut other, shown).await, NOTHING);
    }
    // What was said to be written is, and nothing else.
    let expected = if points == 0 {
        " ".to_owned()
    } else {
        format!(" {points}")
    };
    assert_eq!(account(&site, "ada").await, expected);
    assert!(list(&site, "ada").await.is_empty());
    assert!(admitted(&site, "ada").await.is_empty());
}

async fn a_late_commit_that_races_a_logout_revives_nothing(site: Site) {
    logouts_that_race(site, 200 * times()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_never_revives_a_session_logged_out_in_memory() {
    logouts_that_race(Site::in_memory(), 10_000).await;
}

#[tokio::test]
async fn a_late_request_that_deletes_or_logs_out_ends_nothing_of_the_users() {
    let site = Site::in_memory();
    for presents in [false, true] {
        let mut visitor = guest(&site, &[1]).await;
        let mut tab = visitor.clone();
        let late = async move |mut session: Session<Shop>| {
            login(&mut tab, "ada").await;
            if presents {
                quietly(&mut tab, shown).await;
            }
            session.logout().await.unwrap(); // a guest's: it does nothing
            session.delete("over").await.unwrap();
            tab.id()
        };
        let id = quietly(&mut visitor, late).await;
        let mut tab = visitor.presenting(&id);
        assert!(quietly(&mut tab, shown).await.starts_with("ada [1"));
        paint(&mut tab, "loud").await;
    }
}

async fn a_request_that_finds_its_place_gone_begins_nothing_over_a_newer_login(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    let mut tab = visitor.clone();
    // It has loaded the session, and the user only when another tab has logged out, and in again.
    site.store.plan([Fault::None, Fault::Held]);
    let late = async |mut session: Session<Shop>| {
        session.notice.set("Hello.".to_owned());
        format!("{:?} {:?}", session.user(), session.ended())
    };
    let waiting = tokio::spawn(async move { quietly(&mut visitor, late).await });
    site.store.until_held(1).await;
    tab.visit(logout).await;
    login(&mut tab, "ada").await;
    site.store.release();
    assert_eq!(waiting.await.unwrap(), "None Some(LoggedOut)");
    assert_eq!(quietly(&mut tab, shown).await, "ada [1] 1 plain");
}

#[tokio::test]
async fn what_is_set_after_the_session_was_found_to_have_ended_goes_along_with_a_login() {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Shop>| {
        let delete = async |mut session: Session<Shop>| session.delete("over").await;
        tab.visit(delete).await;
        session.theme.set("loud".to_owned());
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        session.theme.set("bright".to_owned());
        add(&mut session, 2);
        assert_eq!(session.save().await.unwrap(), Saved::Ended);
        session.login("ada").await
    };
    let reply = visitor.visit(late).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    assert_eq!(quietly(&mut visitor, shown).await, "ada [2] 2 bright");
}
