//! The store is down, slow, or cut off amid a word.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use session_runtime::{Error, Session, Sessions};
use session_tests::{Cut, PATIENCE, Tries, Visitor, Wire, wait_for};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::on_each_server;
use super::stand::{
    DEADLINE, Server, Shop, Stand, add_one, assert_busy, in_time, insist, read, refusal,
};

const LONG: Duration = Duration::from_secs(10);

/// Ways of being down.
const DOWN: [Wire; 3] = [Wire::Reset, Wire::Refused, Wire::BlackHole];

/// Ways of being slow, each way.
const SLOW: [Wire; 2] = [
    Wire::Delayed {
        up: LONG,
        down: Duration::ZERO,
    },
    Wire::Delayed {
        up: Duration::ZERO,
        down: LONG,
    },
];

/// Where a commit is cut, and whether it has had its effect by then.
const CUTS: [(Cut, bool); 6] = [
    (Cut::BEFORE, false),
    (Cut::FromClient(1), false),
    (Cut::FromClient(100), false),
    (Cut::AFTER, true),
    (Cut::FromServer(1), true),
    (Cut::FromServer(3), true),
];

async fn a_store_that_is_down_or_slow_at_load_is_503_in_time_and_costs_nothing<S: Server>(
    stand: Stand<S>,
) {
    let stand = stand.hasty();
    let optional = async |session: Option<Session<Shop>>| session.is_none().to_string();
    for wire in DOWN.into_iter().chain(SLOW) {
        let mut visitor = stand.customer().await;
        let (id, before) = (visitor.id(), stand.record(&visitor).await);
        stand.proxy.set(wire);
        in_time(async || refusal(&mut visitor, add_one).await).await;
        in_time(async || refusal(&mut visitor, optional).await).await;
        assert_eq!(
            visitor.visit(async || "unaffected").await.body,
            "unaffected"
        );
        assert_eq!(visitor.id(), id);
        assert_eq!(stand.heal(&mut visitor).await.body, "10", "{wire:?}");
        assert_eq!(stand.record(&visitor).await, before, "{wire:?}");
    }
}

async fn a_store_that_is_down_or_slow_at_commit_is_503_in_time<S: Server>(stand: Stand<S>) {
    let stand = stand.hasty();
    for wire in DOWN.into_iter().chain(SLOW) {
        let mut customer = stand.customer().await;
        let mut guest = stand.site.visitor();
        let (id, before) = (customer.id(), stand.record(&customer).await);
        for visitor in [&mut customer.clone(), &mut guest] {
            in_time(async || {
                stand.heal(&mut customer).await;
                let proxy = Arc::clone(&stand.proxy);
                let handler = async move |session: Session<Shop>| {
                    proxy.set(wire);
                    add_one(session).await;
                };
                refusal(visitor, handler).await
            })
            .await;
        }
        assert_eq!((customer.id(), guest.browser.id()), (id, None));
        stand.heal(&mut customer).await;
        // What was under way when the wire closed may arrive when it opens: then all of it, as in a network.
        if matches!(wire, Wire::Reset | Wire::Refused) {
            assert_eq!(stand.record(&customer).await, before, "{wire:?}");
        }
    }
}

/// Once the connections that were open are known to be none, nobody waits for the deadline.
async fn a_refused_connection_is_answered_at_once_also_to_who_comes_without_a_cookie<S: Server>(
    stand: Stand<S>,
) {
    let site = stand
        .site
        .with(|layer| layer.deadline(Duration::from_secs(2)));
    let mut customer = site.visitor();
    insist(&mut customer, add_one).await;
    stand.proxy.set(Wire::Refused);
    for (mut visitor, asks) in [(site.visitor(), (0, 1)), (customer, (1, 0))] {
        wait_for("one call is all it takes", async || {
            site.store.round_trips();
            let reply = visitor.visit(add_one).await;
            assert_busy(&reply);
            let error = reply.error.expect("it is told");
            assert!(error.is_unavailable(), "{error:?}");
            // A machine that stands still may have it come too late, but not each time.
            site.store.round_trips() == asks && !error.is_timeout()
        })
        .await;
    }
}

async fn a_commit_that_is_cut_is_repeated_and_applied_once<S: Server>(stand: Stand<S>) {
    let stand = stand.narrow().await;
    for (cut, _) in CUTS {
        let mut customer = stand.customer().await;
        let mut guest = stand.site.visitor();
        for (visitor, points) in [(&mut customer, 11), (&mut guest, 1)] {
            let proxy = Arc::clone(&stand.proxy);
            let handler = async move |session: Session<Shop>| {
                proxy.cut(cut, Wire::Open);
                add_one(session).await;
            };
            assert_eq!(visitor.visit(handler).await.status, StatusCode::OK);
            assert!(!stand.proxy.is_cut_pending(), "{cut:?}");
            assert_eq!(stand.points(visitor).await, points, "{cut:?}");
        }
    }
}

/// Has a customer and a guest add one point each, who wait so long, and cuts their commits off. How many points the customer has got in
/// the end; `None` if this machine was too slow for the commits to come that far.
async fn added_though_cut_off<S: Server>(
    stand: &Stand<S>,
    cut: Cut,
    then: Wire,
    patience: Duration,
) -> Option<u32> {
    // What a black hole has let out is answered when the server comes to it: not on a connection that is to be cut.
    stand.proxy.set(Wire::Reset);
    stand.proxy.set(Wire::Open);
    let layer = stand.site.layer.clone().deadline(patience);
    let mut customer = stand.customer().await.moved_to(&layer);
    let mut guest = Visitor::of(layer);
    for visitor in [&mut customer, &mut guest] {
        stand.proxy.set(Wire::Open);
        stand.warm().await;
        let (begun, proxy) = (Arc::new(AtomicBool::new(false)), Arc::clone(&stand.proxy));
        let begins = Arc::clone(&begun);
        let handler = async move |session: Session<Shop>| {
            begins.store(true, Ordering::SeqCst);
            proxy.cut(cut, then);
            add_one(session).await;
        };
        let reply = visitor.visit(handler).await;
        if !begun.load(Ordering::SeqCst) || stand.proxy.is_cut_pending() {
            return None;
        }
        assert_busy(&reply);
    }
    assert_eq!(guest.browser.id(), None);
    stand.heal(&mut customer).await;
    Some(stand.points(&customer).await - 10)
}

async fn a_commit_that_is_cut_off_is_503_and_applied_once_at_most<S: Server>(stand: Stand<S>) {
    let stand = stand.narrow().await.hasty();
    for (cut, is_done) in CUTS {
        for then in DOWN {
            let mut patience = DEADLINE;
            let added = loop {
                if let Some(added) = added_though_cut_off(&stand, cut, then, patience).await {
                    break added;
                }
                patience *= 2;
                assert!(patience < PATIENCE, "{cut:?} {then:?}: it is never cut");
            };
            // A black hole keeps what came next, and lets it out in the end.
            let late = u32::from(then == Wire::BlackHole);
            let least = u32::from(is_done);
            assert!(
                (least..=least.max(late)).contains(&added),
                "{cut:?} {then:?}: {added}"
            );
        }
    }
}

async fn a_save_that_is_cut_off_counts_once_with_what_follows<S: Server>(stand: Stand<S>) {
    let stand = stand.narrow().await.hasty();
    for (cut, _) in CUTS {
        for then in DOWN {
            let mut customer = stand.customer().await;
            let proxy = Arc::clone(&stand.proxy);
            let handler = async move |mut session: Session<Shop>| {
                *session.points.get_mut() += 1;
                proxy.cut(cut, then);
                let saved = session.save().await;
                assert!(saved.is_err_and(|error| error.is_unavailable()));
                proxy.set(Wire::Open);
                *session.points.get_mut() += 1;
                while session.save().await.is_err() {}
            };
            let visit = timeout(PATIENCE, insist(&mut customer, handler));
            visit.await.expect("it ends");
            assert_eq!(stand.points(&customer).await, 12, "{cut:?} {then:?}");
        }
    }
}

// ---- deadlines

/// What a handler waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Login,
    Logout,
    Save,
    Delete,
    List,
    RevokeAll,
}

/// All that takes more than one call.
const OPERATIONS: [Operation; 6] = [
    Operation::Login,
    Operation::Logout,
    Operation::Save,
    Operation::Delete,
    Operation::List,
    Operation::RevokeAll,
];

impl Operation {
    async fn run(
        self,
        session: &mut Session<Shop>,
        sessions: &Sessions,
        user: &str,
    ) -> Result<(), Error> {
        match self {
            Self::Login => session.login(user).await,
            Self::Logout => session.logout().await,
            Self::Save => {
                // In both records.
                session.text.set("saved".to_owned());
                *session.points.get_mut() += 1;
                session.save().await.map(drop)
            }
            Self::Delete => session.delete("done").await,
            Self::List => sessions.list(user).await.map(drop),
            Self::RevokeAll => sessions.revoke_all(user).await.map(drop),
        }
    }
}

/// Has a handler do it over what `spoil` makes of the wire, which it finds open. How long it took: to succeed, or to say
/// that the store does not answer.
async fn spoilt(
    visitor: &mut Visitor,
    operation: Operation,
    user: &str,
    spoil: impl Fn() + Clone + Send + Sync + 'static,
) -> Duration {
    let (user, took) = (user.to_owned(), Arc::new(OnceLock::new()));
    let tell = Arc::clone(&took);
    let handler = async move |mut session: Session<Shop>, sessions: Sessions| {
        spoil();
        let begun = Instant::now();
        let done = operation.run(&mut session, &sessions, &user).await;
        tell.get_or_init(|| begun.elapsed());
        if let Err(error) = done {
            assert!(error.is_unavailable(), "{operation:?}: {error:?}");
        }
    };
    wait_for("the store answers the load", async || {
        // What the end of the request comes to is another operation.
        visitor.visit(handler.clone()).await;
        took.get().is_some()
    })
    .await;
    *took.get().expect("it was waited for")
}

/// A user of their own, and who is logged in so, with ten points; or who is about to, as a guest.
async fn customer<S: Server>(stand: &Stand<S>, operation: Operation) -> (Visitor, String) {
    static USERS: AtomicUsize = AtomicUsize::new(0);
    let user = format!("user{}", USERS.fetch_add(1, Ordering::Relaxed));
    let mut visitor = stand.customer().await;
    if operation != Operation::Login {
        log_in(&mut visitor, &user).await;
    }
    (visitor, user)
}

async fn log_in(visitor: &mut Visitor, user: &str) {
    let user = user.to_owned();
    let login = async move |mut session: Session<Shop>| {
        if session.user().is_some() {
            return Ok(());
        }
        session.login(&*user).await
    };
    insist(visitor, login).await;
}

async fn whatever_is_awaited_is_answered_in_time_though_no_call_is_too_slow<S: Server>(
    stand: Stand<S>,
) {
    let stand = stand.hasty();
    // Each call takes nine tenths of the time that there is for all.
    let delay = DEADLINE * 9 / 20;
    for operation in OPERATIONS {
        in_time(async || {
            stand.proxy.set(Wire::Open);
            let (mut visitor, user) = customer(&stand, operation).await;
            let proxy = Arc::clone(&stand.proxy);
            let slow = move || {
                proxy.set(Wire::Delayed {
                    up: delay,
                    down: delay,
                });
            };
            spoilt(&mut visitor, operation, &user, slow).await
        })
        .await;
    }
}

/// Counts the bytes that the server answers in a login, at least: the first ones also prepare what the others use.
async fn answered<S: Server>(stand: &Stand<S>) -> usize {
    let mut answered = usize::MAX;
    for _ in 0..5 {
        let (mut visitor, user) = customer(stand, Operation::Login).await;
        let proxy = Arc::clone(&stand.proxy);
        let login = async move |mut session: Session<Shop>| {
            proxy.traffic();
            let done = session.login(user).await;
            done.map(|()| proxy.traffic().down.to_string())
        };
        let down = insist(&mut visitor, login).await.body;
        answered = answered.min(down.parse().expect("a number"));
    }
    answered
}

/// In how many places a login is cut.
const PLACES: usize = 12;

async fn a_login_cut_off_anywhere_is_answered_in_time_and_the_next_credits_once<S: Server>(
    stand: Stand<S>,
) {
    let stand = stand.narrow().await;
    let whole = answered(&stand).await;
    let stand = stand.hasty();
    for place in 0..PLACES {
        let mut guests = Vec::new();
        in_time(async || {
            let mut patience = DEADLINE;
            loop {
                stand.proxy.set(Wire::Open);
                let (visitor, user) = customer(&stand, Operation::Login).await;
                let layer = stand.site.layer.clone().deadline(patience);
                let mut visitor = visitor.moved_to(&layer);
                let (proxy, cut) = (
                    Arc::clone(&stand.proxy),
                    Cut::FromServer(whole * place / PLACES),
                );
                let silent = move || proxy.cut(cut, Wire::BlackHole);
                let took = spoilt(&mut visitor, Operation::Login, &user, silent).await;
                let came_so_far = !stand.proxy.is_cut_pending();
                guests.push((visitor.moved_to(&stand.site.layer), user));
                // On a machine that is too slow, it gives up before: the next one waits longer.
                if came_so_far {
                    return took.saturating_sub(patience - DEADLINE);
                }
                patience *= 2;
                assert!(patience < PATIENCE, "it is never cut");
            }
        })
        .await;
        stand.proxy.set(Wire::Open);
        for (mut visitor, user) in guests {
            log_in(&mut visitor, &user).await;
            assert_eq!(stand.heal(&mut visitor).await.body, "10", "{place}");
            let devices = stand.site.layer.clone().deadline(PATIENCE).sessions();
            let devices = devices.list(user.as_str()).await;
            assert_eq!(devices.expect("the store answers").len(), 1, "{place}");
        }
    }
}

// ---- many at once

const CLIENTS: usize = 200;

async fn two_connections_serve_two_hundred_clients_and_a_silent_server_hangs_none<S: Server>(
    stand: Stand<S>,
) {
    let delay = Duration::from_millis(1);
    let delayed = Wire::Delayed {
        up: delay,
        down: delay,
    };
    stand.proxy.set(delayed);
    let mut visitors = Vec::new();
    let mut creating = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut visitor = stand.site.visitor();
        creating.spawn(async move {
            assert_eq!(visitor.visit(add_one).await.status, StatusCode::OK);
            visitor
        });
    }
    let created = creating.join_all().await;
    let stand = stand.hasty();
    for mut visitor in created {
        assert_eq!(insist(&mut visitor, read).await.body, "1");
        visitors.push(visitor.moved_to(&stand.site.layer));
    }
    let (tries, mut took) = (Tries::begin(), Vec::new());
    while took.iter().filter(|took| **took < LONG).count() < 2 {
        tries.go_on(&took);
        stand.proxy.set(Wire::BlackHole);
        let mut waiting = JoinSet::new();
        for visitor in &visitors {
            let mut visitor = visitor.clone();
            waiting.spawn(async move { refusal(&mut visitor, add_one).await });
        }
        let begun = Instant::now();
        let hung = timeout(PATIENCE, waiting.join_all()).await;
        hung.expect("everyone is answered");
        took.push(begun.elapsed());
        // Within a second, as `heal` demands.
        for visitor in visitors.iter_mut().take(3) {
            stand.heal(visitor).await;
        }
    }
}

on_each_server! {
    a_store_that_is_down_or_slow_at_load_is_503_in_time_and_costs_nothing,
    a_store_that_is_down_or_slow_at_commit_is_503_in_time,
    a_refused_connection_is_answered_at_once_also_to_who_comes_without_a_cookie,
    a_commit_that_is_cut_is_repeated_and_applied_once,
    a_commit_that_is_cut_off_is_503_and_applied_once_at_most,
    a_save_that_is_cut_off_counts_once_with_what_follows,
    whatever_is_awaited_is_answered_in_time_though_no_call_is_too_slow,
    a_login_cut_off_anywhere_is_answered_in_time_and_the_next_credits_once,
    two_connections_serve_two_hundred_clients_and_a_silent_server_hangs_none,
}
