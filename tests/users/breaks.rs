//! Where a request can break off, and having it do so.

use std::time::Duration;

use axum::handler::Handler;
use http::StatusCode;
use session_runtime::{UserId, WhenFull};
use session_tests::customers::{entering, guest, login, try_login, user};
use session_tests::{Fault, Reply, Site, Visitor};
use tokio::task::JoinHandle;

/// The call of a guest's login that opens the session: after the session and the user were looked up.
pub(super) const OPENING: usize = 2;
/// That which confirms it.
pub(super) const CONFIRMATION: usize = 3;

/// How long after it was cut off a login is tried again.
pub(super) const WAITS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(4 * 60),
    Duration::from_secs(6 * 60),
    Duration::from_secs(60 * 60),
];

/// The call that breaks, how, and what happens to all later ones.
pub(super) type Break = (usize, Fault, Fault);

/// Each place where a request of so many calls can break off.
pub(super) fn breaks(calls: usize) -> impl Iterator<Item = Break> {
    let faults = [Fault::Before, Fault::After, Fault::Full];
    (0..calls).flat_map(move |call| faults.map(|fault| (call, fault, Fault::Full)))
}

/// Sends a request that breaks off.
pub(super) async fn break_off<T: 'static>(
    site: &Site,
    visitor: &mut Visitor,
    (call, fault, then): Break,
    handler: impl Handler<T, ()>,
) -> Reply {
    site.store.fail_after(call, fault, then);
    let reply = visitor.visit(handler).await;
    site.store.heal();
    reply
}

/// Has a guest log in who has 2, as a user who has 1; it breaks off. The browser, and another with what it had before.
pub(super) async fn break_login(site: &Site, name: &str, at: Break) -> (Visitor, Visitor) {
    drop(user(site, name, &[1]).await);
    let guest = guest(site, &[2]).await;
    let mut visitor = guest.clone();
    let reply = break_off(site, &mut visitor, at, entering(name)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{at:?}");
    assert!(reply.set_cookies().is_empty());
    (visitor, guest)
}

/// Counts the calls that the login of a guest who has something makes until it is done. One more drops what was credited.
pub(super) async fn calls(site: &Site) -> usize {
    drop(user(site, "somebody", &[]).await);
    let mut visitor = guest(site, &[2]).await;
    site.store.round_trips();
    login(&mut visitor, "somebody").await;
    let (loads, swaps) = site.store.round_trips();
    assert_eq!((loads, swaps), (2, 3));
    CONFIRMATION + 1
}

/// A site whose store may stay away until the deadline, which is soon.
pub(super) fn hasty() -> Site {
    let deadline = Duration::from_millis(30);
    Site::in_memory().with(|layer| layer.deadline(deadline))
}

/// The site without a limit of the app's on sessions, or with one.
pub(super) fn with_limit(site: Site, limited: bool) -> Site {
    if limited {
        site.with(|layer| layer.max_sessions(5, WhenFull::EndOldest))
    } else {
        site
    }
}

/// Logs in as `user`, in a task.
pub(super) fn logs_in(mut tab: Visitor, user: &str) -> JoinHandle<(Visitor, Reply)> {
    let user = UserId::new(user);
    tokio::spawn(async move {
        let reply = try_login(&mut tab, user).await;
        (tab, reply)
    })
}

/// Begins a login whose `call`th call is on the wire when it gives up.
pub(super) async fn cut_off(site: &Site, visitor: &Visitor, user: &str, call: usize) {
    site.store.fail_after(call, Fault::Stray, Fault::Full);
    let reply = try_login(&mut visitor.clone(), user).await;
    site.store.heal();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    site.store.until_held(1).await;
}
