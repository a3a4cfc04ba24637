//! Changes that one handle makes while another one of its request waits for the store, and errors that a handler makes
//! nothing of: what is not written is told, and nothing is written twice.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use session_runtime::{Clock, Error, Saved, Session, Sessions};
use session_tests::customers::{Shop, add, gather, guest, login, logout, quietly, shown, user};
use session_tests::{Fault, FaultStore, Handles, Logs, Site, Visitor, on_each_store};
use tokio::sync::oneshot;

use super::breaks::OPENING;
use super::stored::{MINUTE, SECOND, account, plant};

on_each_store!(
    what_is_said_of_a_sessions_life_while_it_is_written_is_written_next,
    what_is_changed_of_a_user_who_logs_in_again_meanwhile_counts,
    what_is_in_doubt_is_not_added_again_by_what_settles_a_guests_things,
    a_late_login_in_doubt_that_is_tried_again_adds_nothing_twice,
    a_second_login_in_doubt_that_is_tried_again_loses_nothing_of_the_browsers,
    a_login_as_another_user_in_doubt_that_is_tried_again_starts_clean,
    a_login_in_doubt_whose_session_has_ended_since_loses_nothing_in_silence,
    what_another_handle_adds_during_a_guests_login_brings_nothing_uninvited,
    what_another_handle_adds_during_a_guests_login_is_settled_with_the_rest,
    what_another_handle_adds_that_cannot_be_merged_stays_set_apart,
    what_another_handle_changes_waits_where_the_user_has_no_room,
    what_another_handle_sets_during_a_guests_login_is_merged_by_the_logins_rule,
    what_another_handle_does_during_a_login_in_doubt_is_taken_along_by_the_next,
    what_a_tab_of_before_changes_during_a_login_as_another_user_goes_along,
    what_is_changed_of_a_user_who_was_deleted_is_not_taken_along,
    a_login_after_all_sessions_are_revoked_keeps_what_is_the_browsers,
    a_claimed_flash_is_not_lost_to_a_conflict_of_another_field,
    a_notice_of_an_earlier_id_is_set_once_by_a_login_as_another_user,
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Save,
    Login,
    Logout,
}

impl Step {
    async fn take(self, session: &mut Session<Shop>) -> Result<(), Error> {
        match self {
            Self::Save => session.save().await.map(drop),
            Self::Login => session.login("ada").await,
            Self::Logout => session.logout().await,
        }
    }
}

/// Takes a step that is held by the store; `act` is done meanwhile.
pub(super) async fn while_held<T>(
    store: &FaultStore,
    step: impl Future<Output = T>,
    act: impl FnOnce(),
) -> T {
    let act = async {
        store.until_held(1).await;
        act();
        store.release();
    };
    tokio::join!(step, act).0
}

/// Takes a step that waits for the store at the call after `calls`; `act` is done by another handle meanwhile.
async fn meanwhile(
    site: &Site,
    visitor: &mut Visitor,
    (step, calls): (Step, usize),
    act: fn(Session<Shop>),
) {
    let store = Arc::clone(&site.store);
    let both = async move |mut handles: Handles| {
        let (mut first, other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        first.theme.set("loud".to_owned());
        store.plan_after(calls, [Fault::Held]);
        while_held(&store, step.take(&mut first), || act(other)).await
    };
    let reply = visitor.visit(both).await;
    assert_eq!(reply.status, StatusCode::OK, "{step:?}, {calls}");
}

async fn what_is_said_of_a_sessions_life_while_it_is_written_is_written_next(site: Site) {
    for step in [(Step::Save, 0), (Step::Login, OPENING), (Step::Login, 0)] {
        for mut visitor in [site.visitor(), guest(&site, &[1]).await] {
            meanwhile(&site, &mut visitor, step, |mut other| other.set_ttl(MINUTE)).await;
            let expires = site.record(&visitor).await.expect("it is stored").expires();
            assert_eq!(expires, site.clock.now() + MINUTE, "{step:?}");
        }
    }
}

async fn what_is_changed_of_a_user_who_logs_in_again_meanwhile_counts(site: Site) {
    for calls in 0..3 {
        let mut visitor = user(&site, "ada", &[]).await;
        let before = account(&site, "ada").await;
        let step = (Step::Login, calls);
        meanwhile(&site, &mut visitor, step, |mut other| add(&mut other, 2)).await;
        assert_ne!(account(&site, "ada").await, before, "{calls}");
        assert!(quietly(&mut visitor, shown).await.ends_with(" loud"));
    }
    assert_eq!(account(&site, "ada").await, "[2,2,2] 6");
}

#[tokio::test]
async fn what_is_changed_of_a_user_while_a_logout_is_under_way_is_told_of() {
    let (logs, site) = (Logs::capture(), Site::in_memory());
    let mut visitor = user(&site, "ada", &[1]).await;
    let step = (Step::Logout, 0);
    meanwhile(&site, &mut visitor, step, |mut other| add(&mut other, 2)).await;
    assert_eq!(account(&site, "ada").await, "[1] 1");
    assert_eq!(logs.lines("WARN", "ended or replaced meanwhile"), 1);
}

async fn what_is_in_doubt_is_not_added_again_by_what_settles_a_guests_things(site: Site) {
    let site = site.with(|layer| layer.migrate(false));
    for (discards, has) in [(false, "[1,4,2] 7"), (true, "[1,4] 5")] {
        let name = format!("ada {discards}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        login(&mut visitor, &*name).await;
        quietly(&mut visitor, shown).await; // its id is presented: only the user's record is left to be written
        let store = Arc::clone(&site.store);
        let settle = async move |mut session: Session<Shop>| {
            add(&mut session, 4);
            store.plan([Fault::After, Fault::Full]);
            session.save().await.expect_err("its answer is lost");
            if discards {
                session.discard().await
            } else {
                session.migrate().await
            }
        };
        assert_eq!(visitor.visit(settle).await.status, StatusCode::OK);
        assert_eq!(account(&site, &name).await, has);
    }
}

/// Says what there is, in order: what came later may stand before it.
async fn sorted(session: Session<Shop>) -> String {
    let mut seen = session.seen.get().clone();
    seen.sort_unstable();
    format!("{seen:?} {} {}", session.points.get(), session.theme.get())
}

/// Logs in, which breaks off at the call after so many, and then once more.
async fn insist(
    session: &mut Session<Shop>,
    store: &FaultStore,
    name: &str,
    (calls, fault): (usize, Fault),
) -> Result<(), Error> {
    store.fail_after(calls, fault, Fault::Full);
    let _ = session.login(name).await;
    store.heal();
    session.seen.get_mut().push(5);
    session.login(name).await
}

fn breaks() -> impl Iterator<Item = (usize, Fault)> {
    let faults = [Fault::Before, Fault::After, Fault::Full];
    (0..6).flat_map(move |calls| faults.map(|fault| (calls, fault)))
}

async fn a_late_login_in_doubt_that_is_tried_again_adds_nothing_twice(site: Site) {
    for at in breaks() {
        let name = format!("ada {at:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = guest(&site, &[2]).await;
        let mut tab = visitor.clone();
        login(&mut visitor, &*name).await;
        let (store, ada) = (Arc::clone(&site.store), name.clone());
        let late = async move |mut session: Session<Shop>| {
            add(&mut session, 4);
            session.theme.set("loud".to_owned());
            insist(&mut session, &store, &ada, at).await
        };
        assert_eq!(tab.visit(late).await.status, StatusCode::OK, "{at:?}");
        let seen = quietly(&mut tab, sorted).await;
        assert_eq!(seen, "[1, 2, 4, 5] 7 loud", "{at:?}");
    }
}

async fn a_second_login_in_doubt_that_is_tried_again_loses_nothing_of_the_browsers(site: Site) {
    for at in breaks() {
        let name = format!("ada {at:?}");
        let mut visitor = user(&site, &*name, &[1]).await;
        let (store, ada) = (Arc::clone(&site.store), name.clone());
        let again = async move |sessions: Sessions, mut session: Session<Shop>| {
            session.theme.set("loud".to_owned());
            sessions.revoke_all(&*ada).await?;
            insist(&mut session, &store, &ada, at).await
        };
        assert_eq!(visitor.visit(again).await.status, StatusCode::OK, "{at:?}");
        let seen = quietly(&mut visitor, shown).await;
        let either = ["[1]", "[1, 5]"].map(|numbers| format!("{name} {numbers} 1 loud"));
        assert!(either.contains(&seen), "{seen}");
    }
}

async fn a_login_as_another_user_in_doubt_that_is_tried_again_starts_clean(site: Site) {
    for at in breaks() {
        let name = format!("ada {at:?}");
        drop(user(&site, &*name, &[1]).await);
        let mut visitor = user(&site, "bob", &[]).await;
        let (old, store, ada) = (visitor.clone(), Arc::clone(&site.store), name.clone());
        let twice = async move |mut session: Session<Shop>| {
            session.theme.set("loud".to_owned());
            store.fail_after(at.0, at.1, Fault::Full);
            let first = session.login(&*ada).await;
            store.heal();
            session.login(&*ada).await?;
            Ok::<_, Error>(first.is_err().to_string())
        };
        let reply = visitor.visit(twice).await;
        assert_eq!(reply.status, StatusCode::OK, "{at:?}");
        let seen = quietly(&mut visitor, shown).await;
        assert_eq!(seen, format!("{name} [1] 1 plain"));
        if reply.body == "true" {
            let old = site.record(&old).await.unwrap();
            assert!(old.ended().is_some(), "{at:?}");
        }
        let listed = site.layer.sessions().list(&*name).await.unwrap();
        assert_eq!(listed.len(), 2, "{at:?}: and the one that has 1");
    }
}

/// A tab logs out under the id of before, which nobody has a newer one for.
async fn a_login_in_doubt_whose_session_has_ended_since_loses_nothing_in_silence(site: Site) {
    for adds in [false, true] {
        let mut visitor = guest(&site, &[1]).await;
        let (tab, store) = (visitor.clone(), Arc::clone(&site.store));
        let thrice = async move |mut session: Session<Shop>| {
            session.theme.set("loud".to_owned());
            if adds {
                add(&mut session, 4);
            }
            store.fail_after(1, Fault::After, Fault::Full);
            session.login("ada").await.expect_err("its answer is lost");
            store.heal();
            assert_eq!(tab.clone().visit(logout).await.status, StatusCode::OK);
            let told = session.login("ada").await.is_err();
            assert_eq!(told, adds, "what follows may have been credited");
            session.login("ada").await
        };
        let reply = visitor.visit(thrice).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(quietly(&mut visitor, shown).await, "ada [] 0 loud");
    }
}

async fn what_another_handle_adds_during_a_guests_login_brings_nothing_uninvited(site: Site) {
    let site = site.with(|layer| layer.migrate(false));
    drop(user(&site, "ada", &[1]).await);
    let brought = async |session: Session<Shop>| {
        format!(
            "{:?} {:?}",
            session.seen.brought(),
            session.points.brought()
        )
    };
    for (calls, migrates) in [(0, false), (1, false), (2, false), (2, true)] {
        let mut visitor = guest(&site, &[2]).await;
        let step = (Step::Login, calls);
        meanwhile(&site, &mut visitor, step, |mut other| add(&mut other, 4)).await;
        assert_eq!(account(&site, "ada").await, "[1] 1", "{calls}");
        assert_eq!(quietly(&mut visitor, brought).await, "Some([2, 4]) Some(6)");
        let settle = async move |mut session: Session<Shop>| {
            if migrates {
                session.migrate().await
            } else {
                session.discard().await
            }
        };
        quietly(&mut visitor, settle).await;
        assert_eq!(quietly(&mut visitor, brought).await, "None None");
        let has = if migrates { "[1,2,4] 7" } else { "[1] 1" };
        assert_eq!(account(&site, "ada").await, has, "{calls}");
    }
}

/// The same, settled by the handler that logs in.
async fn what_another_handle_adds_during_a_guests_login_is_settled_with_the_rest(site: Site) {
    let site = site.with(|layer| layer.migrate(false));
    for (discards, has) in [(false, "[2,4] 6"), (true, " ")] {
        let name = format!("ada {discards}");
        let mut visitor = guest(&site, &[2]).await;
        let (store, ada) = (Arc::clone(&site.store), name.clone());
        let both = async move |mut handles: Handles| {
            let mut first = handles.open::<Shop>().await;
            let mut other = handles.open::<Shop>().await;
            store.plan([Fault::Held]);
            let change = || {
                add(&mut other, 4);
                drop(other);
            };
            while_held(&store, first.login(&*ada), change).await?;
            if discards {
                first.discard().await
            } else {
                first.migrate().await
            }
        };
        assert_eq!(visitor.visit(both).await.status, StatusCode::OK);
        assert_eq!(account(&site, &name).await, has);
        let brought = async |session: Session<Shop>| format!("{:?}", session.points.brought());
        assert_eq!(quietly(&mut visitor, brought).await, "None");
    }
}

async fn what_another_handle_adds_that_cannot_be_merged_stays_set_apart(site: Site) {
    drop(user(&site, "ada", &[1]).await);
    plant(&site, "ada", "points", "\"many\"").await;
    let mut visitor = guest(&site, &[]).await;
    let step = (Step::Login, OPENING);
    meanwhile(&site, &mut visitor, step, |mut other| add(&mut other, 4)).await;
    let brought = async |session: Session<Shop>| format!("{:?}", session.points.brought());
    assert_eq!(quietly(&mut visitor, brought).await, "Some(4)");
    assert_eq!(account(&site, "ada").await, "[1,4] \"many\"");
}

async fn what_another_handle_changes_waits_where_the_user_has_no_room(site: Site) {
    const MANY: [u32; 40] = [100_000_000; 40];
    const SOME: [u32; 25] = [100_000_000; 25];
    let site = site.with(|layer| layer.max_record(700));
    let set = async |mut session: Session<Shop>| session.seen.set(MANY.to_vec());
    let mut ada = user(&site, "ada", &[]).await;
    quietly(&mut ada, set).await;
    let brought = async |session: Session<Shop>| {
        let brought = session.seen.brought();
        format!("{:?}", brought.map(|brought| brought.len()))
    };
    // What it adds; then what it takes out, of what the guest has.
    let mut visitor = guest(&site, &[]).await;
    let step = (Step::Login, OPENING);
    let adds = |mut other: Session<Shop>| other.seen.set(SOME.to_vec());
    meanwhile(&site, &mut visitor, step, adds).await;
    assert_eq!(quietly(&mut visitor, brought).await, "Some(25)");
    let mut visitor = guest(&site, &[]).await;
    let some = async |mut session: Session<Shop>| session.seen.set(SOME.to_vec());
    quietly(&mut visitor, some).await;
    let clears = |mut other: Session<Shop>| other.seen.clear();
    meanwhile(&site, &mut visitor, step, clears).await;
    assert_eq!(quietly(&mut visitor, brought).await, "None");
    let seen = async |session: Session<Shop>| session.seen.get().len().to_string();
    assert_eq!(quietly(&mut ada, seen).await, "40");
}

#[derive(Session)]
struct Prices {
    #[merge(user)]
    currency: String,
}

async fn what_another_handle_sets_during_a_guests_login_is_merged_by_the_logins_rule(site: Site) {
    let currency = async |session: Session<Prices>| session.currency.get().clone();
    let mut visitor = user(&site, "ada", &[]).await;
    let set = async |mut session: Session<Prices>| session.currency.set("EUR".to_owned());
    quietly(&mut visitor, set).await;
    for (calls, clears) in [(0, false), (1, false), (1, true), (2, true)] {
        let mut visitor = site.visitor();
        let set = async |mut session: Session<Prices>| session.currency.set("USD".to_owned());
        visitor.visit(set).await;
        let store = Arc::clone(&site.store);
        let both = async move |mut handles: Handles| {
            let mut first = handles.open::<Prices>().await;
            let mut other = handles.open::<Prices>().await;
            store.plan_after(calls, [Fault::Held]);
            let change = || {
                if clears {
                    other.currency.clear();
                } else {
                    other.currency.set("GBP".to_owned());
                }
                drop(other);
            };
            while_held(&store, first.login("ada"), change).await
        };
        assert_eq!(visitor.visit(both).await.status, StatusCode::OK, "{calls}");
        assert_eq!(quietly(&mut visitor, currency).await, "EUR", "{calls}");
    }
}

/// A login that waits at its opening, while another handle paints; then its confirmation is lost, and it is tried again.
async fn what_another_handle_does_during_a_login_in_doubt_is_taken_along_by_the_next(site: Site) {
    drop(user(&site, "ada", &[1]).await);
    let mut visitor = guest(&site, &[2]).await;
    let store = Arc::clone(&site.store);
    let twice = async move |mut handles: Handles| {
        let (mut first, mut other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
        store.plan_after(OPENING - 1, [Fault::Held, Fault::After]); // the session was looked up before
        store.always(Some(Fault::Full));
        let paint = || {
            add(&mut other, 4);
            other.theme.set("loud".to_owned());
            drop(other);
        };
        let entered = while_held(&store, first.login("ada"), paint).await;
        entered.expect_err("its answer is lost");
        store.heal();
        first.login("ada").await
    };
    assert_eq!(visitor.visit(twice).await.status, StatusCode::OK);
    assert_eq!(quietly(&mut visitor, sorted).await, "[1, 2, 4] 7 loud");
}

async fn what_a_tab_of_before_changes_during_a_login_as_another_user_goes_along(site: Site) {
    let mut visitor = guest(&site, &[]).await;
    let mut tab = visitor.clone();
    login(&mut visitor, "bob").await;
    let step = (Step::Login, OPENING);
    meanwhile(&site, &mut tab, step, |mut other| {
        add(&mut other, 2);
        other.theme.set("quiet".to_owned());
    })
    .await;
    assert_eq!(quietly(&mut tab, shown).await, "ada [2] 2 quiet");
}

/// Deletes a user of whom a handle has seen something: that does not come back with what it changes.
async fn what_is_changed_of_a_user_who_was_deleted_is_not_taken_along(site: Site) {
    for calls in 0..3 {
        let mut visitor = user(&site, "ada", &[1]).await;
        let store = Arc::clone(&site.store);
        let both = async move |sessions: Sessions, mut handles: Handles| {
            let (mut first, mut other) =
                (handles.open::<Shop>().await, handles.open::<Shop>().await);
            assert_eq!(other.seen.get().last(), Some(&1));
            sessions.delete("ada").await?;
            store.plan_after(calls, [Fault::Held]);
            let change = || {
                add(&mut other, 2);
                drop(other);
            };
            while_held(&store, first.login("ada"), change).await
        };
        let reply = visitor.visit(both).await;
        assert_eq!(reply.status, StatusCode::OK, "{calls}: {}", reply.body);
        assert_eq!(quietly(&mut visitor, shown).await, "ada [] 0 plain");
    }
}

async fn a_login_after_all_sessions_are_revoked_keeps_what_is_the_browsers(site: Site) {
    let mut visitor = user(&site, "ada", &[1]).await;
    let stay = async |sessions: Sessions, mut session: Session<Shop>| {
        add(&mut session, 2);
        session.theme.set("loud".to_owned());
        sessions.revoke_all("ada").await?;
        session.login("ada").await
    };
    assert_eq!(visitor.visit(stay).await.status, StatusCode::OK);
    // What was the user's was the revoked session's to change no more.
    assert_eq!(quietly(&mut visitor, shown).await, "ada [1] 1 loud");
}

async fn a_claimed_flash_is_not_lost_to_a_conflict_of_another_field(site: Site) {
    let mut visitor = site.visitor();
    let note = async |mut session: Session<Shop>| session.notice.set("Hello".to_owned());
    visitor.visit(note).await;
    let tab = visitor.clone();
    let claim = async move |mut session: Session<Shop>| {
        let other = async |mut session: Session<Shop>| session.order.set(2);
        assert_eq!(tab.clone().visit(other).await.status, StatusCode::OK);
        session.order.set(1);
        session.save().await.expect_err("another has ordered");
        let notice = session.notice.claim().await?.flatten();
        assert!(session.save().await.is_err(), "it is told each time");
        session.forget_changes();
        Ok::<_, Error>(format!("{notice:?} {}", session.order.get()))
    };
    let reply = visitor.visit(claim).await;
    assert_eq!(reply.body, "Some(\"Hello\") 2");
}

#[derive(Session)]
struct Notes {
    #[flash]
    #[merge(append, browser)]
    notes: Vec<u32>,
}

async fn a_notice_of_an_earlier_id_is_set_once_by_a_login_as_another_user(site: Site) {
    let mut visitor = guest(&site, &[]).await;
    let mut tab = visitor.clone();
    login(&mut visitor, "bob").await;
    let enter = async |mut session: Session<Notes>| {
        session.notes.set(vec![1]);
        session.login("ada").await
    };
    assert_eq!(tab.visit(enter).await.status, StatusCode::OK);
    let read = async |session: Session<Notes>| format!("{:?}", session.notes.get());
    assert_eq!(tab.visit(read).await.body, "[1]");
}

/// The response's own changes cannot be written, while a task beside it waits to save what it has changed.
#[tokio::test(start_paused = true)]
async fn a_task_is_told_that_the_response_took_its_changes_along() {
    for refreshes in [false, true] {
        take_along(refreshes).await;
    }
}

async fn take_along(refreshes: bool) {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let (store, (sender, told)) = (Arc::clone(&site.store), oneshot::channel());
    let sender = Arc::new(Mutex::new(Some(sender)));
    let handler = async move |mut handles: Handles| {
        let mut beside = handles.open::<Shop>().await;
        let sender = sender.lock().unwrap().take().expect("one request");
        let held = Arc::clone(&store);
        drop(tokio::spawn(async move {
            held.until_held(1).await;
            beside.theme.set("loud".to_owned());
            if refreshes {
                beside.refresh().await.expect("the store answers");
            }
            let _ = sender.send(beside.save().await);
        }));
        add(&mut handles.open::<Shop>().await, 2);
        store.plan([Fault::Held]);
    };
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let error = told.await.unwrap().expect_err("nothing of it is written");
    assert!(error.to_string().contains("may be lost"), "{error}");
    assert_eq!(quietly(&mut visitor, shown).await, "guest [1] 1 dark");
}

/// A task saves while it is not known what came of its save before; the response, which writes nothing, drops what it has changed.
#[tokio::test(start_paused = true)]
async fn a_task_is_told_that_its_changes_were_dropped_while_it_waited() {
    drop_meanwhile(Fault::Before, "guest [1, 2] 3 dark").await;
    drop_meanwhile(Fault::After, "guest [1, 2] 3 loud").await;
}

async fn drop_meanwhile(fault: Fault, left: &str) {
    let site = Site::in_memory();
    let mut visitor = guest(&site, &[1]).await;
    let (tab, store, (sender, told)) =
        (visitor.clone(), Arc::clone(&site.store), oneshot::channel());
    let sender = Arc::new(Mutex::new(Some(sender)));
    let handler = async move |mut handles: Handles| {
        let mut beside = handles.open::<Shop>().await;
        let sender = sender.lock().unwrap().take().expect("one request");
        let task = Arc::clone(&store);
        drop(tokio::spawn(async move {
            beside.theme.set("loud".to_owned());
            task.fail_after(0, fault, Fault::Full);
            beside.save().await.expect_err("its answer is lost");
            task.heal();
            gather(&mut tab.clone(), 2).await;
            beside.theme.set("louder".to_owned());
            task.plan([Fault::Held]);
            let _ = sender.send(beside.save().await);
        }));
        store.until_held(1).await;
        drop(tokio::spawn(async move {
            tokio::time::sleep(SECOND).await; // the response has been decided
            store.release();
        }));
        StatusCode::GATEWAY_TIMEOUT
    };
    visitor.visit(handler).await;
    let error = told.await.unwrap().expect_err("nothing of it is written");
    assert!(error.to_string().contains("may be lost"), "{error}");
    assert_eq!(quietly(&mut visitor, shown).await, left);
}

#[tokio::test]
async fn a_task_is_told_of_a_drop_whatever_it_has_called_since_its_change() {
    for calls in ["rotate", "refresh", "clear_flashes", "set_ttl"] {
        let site = Site::in_memory();
        let kept = Arc::new(Mutex::new(None));
        let handler = {
            let kept = Arc::clone(&kept);
            async move |mut session: Session<Shop>| {
                session.theme.set("loud".to_owned());
                match calls {
                    "rotate" => session.rotate().await.unwrap(), // there is nothing yet that it could write to
                    "refresh" => session.refresh().await.unwrap(),
                    "clear_flashes" => session.clear_flashes(),
                    _ => {
                        session.save().await.unwrap();
                        session.set_ttl(MINUTE);
                    }
                }
                *kept.lock().unwrap() = Some(session);
                StatusCode::GATEWAY_TIMEOUT
            }
        };
        site.visitor().visit(handler).await;
        let mut session = kept.lock().unwrap().take().expect("it was kept");
        let error = session.save().await.expect_err("it was dropped");
        assert!(
            error.to_string().contains("may be lost"),
            "{calls}: {error}"
        );
        assert_eq!(session.save().await.unwrap(), Saved::Unchanged, "{calls}");
    }
}
