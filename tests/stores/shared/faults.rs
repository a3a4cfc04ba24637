//! The store is down, slow, or cut off amid a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use session_runtime::Session;
use session_tests::{Cut, PATIENCE, Wire};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::on_each_server;
use crate::stand::{Server, Shop, Stand, TRIES, add_one, in_time, insist, read, refusal};

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

async fn a_commit_that_is_cut_is_repeated_and_applied_once<S: Server>(stand: Stand<S>) {
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

/// Has a customer and a guest add one point each, and cuts their commits off. How many points the customer has got in
/// the end; `None` if this machine was too slow for the commits to come that far.
async fn added_though_cut_off<S: Server>(stand: &Stand<S>, cut: Cut, then: Wire) -> Option<u32> {
    let mut customer = stand.customer().await;
    let mut guest = stand.site.visitor();
    let mut came_so_far = true;
    for visitor in [&mut customer, &mut guest] {
        stand.proxy.set(Wire::Open);
        let (begun, proxy) = (Arc::new(AtomicBool::new(false)), Arc::clone(&stand.proxy));
        let begins = Arc::clone(&begun);
        let handler = async move |session: Session<Shop>| {
            begins.store(true, Ordering::SeqCst);
            proxy.cut(cut, then);
            add_one(session).await;
        };
        refusal(visitor, handler).await;
        came_so_far &= begun.load(Ordering::SeqCst) && !stand.proxy.is_cut_pending();
    }
    assert_eq!(guest.browser.id(), None);
    stand.heal(&mut customer).await;
    let added = stand.points(&customer).await - 10;
    came_so_far.then_some(added)
}

async fn a_commit_that_is_cut_off_is_503_and_applied_once_at_most<S: Server>(stand: Stand<S>) {
    let stand = stand.hasty();
    for (cut, is_done) in CUTS {
        for then in DOWN {
            let mut tries = 0;
            let added = loop {
                if let Some(added) = added_though_cut_off(&stand, cut, then).await {
                    break added;
                }
                tries += 1;
                assert!(tries < TRIES, "{cut:?} {then:?}: it is never cut");
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
    let stand = stand.hasty();
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
        assert_eq!(visitor.visit(read).await.body, "1");
        visitors.push(visitor.moved_to(&stand.site.layer));
    }
    let mut took = Vec::new();
    while took.iter().filter(|took| **took < LONG).count() < 2 {
        assert!(took.len() < TRIES, "all are answered after {took:?}");
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
    a_commit_that_is_cut_is_repeated_and_applied_once,
    a_commit_that_is_cut_off_is_503_and_applied_once_at_most,
    a_save_that_is_cut_off_counts_once_with_what_follows,
    two_connections_serve_two_hundred_clients_and_a_silent_server_hangs_none,
}
