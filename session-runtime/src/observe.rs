//! What operators see: one log line and one counter for each thing that should not go unnoticed.
//!
//! Neither ever carries an id or a value. With the feature `metrics` the counters go to the `metrics` facade
//! as `session_<event>_total`, and what calls of the store take as `session_store_seconds`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

macro_rules! count {
    ($name:literal) => {
        #[cfg(feature = "metrics")]
        metrics::counter!(concat!("session_", $name, "_total")).increment(1);
    };
}

/// A store outside of the process has answered, or not.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables))]
pub(crate) fn store_call(store: &str, call: &'static str, begun: Instant) {
    #[cfg(feature = "metrics")]
    metrics::histogram!("session_store_seconds", "store" => store.to_owned(), "call" => call)
        .record(begun.elapsed());
}

/// A call of the store has failed.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables))]
pub(crate) fn store_error(store: &str, call: &'static str, cause: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("session_store_errors_total", "store" => store.to_owned(), "call" => call, "cause" => cause)
        .increment(1);
}

/// The store does not answer any more.
pub(crate) fn unreachable(store: &str, error: impl fmt::Display) {
    tracing::error!(store, %error, "the session store is not reachable: nothing more is said until it is");
}

/// The store answers again.
pub(crate) fn reachable(store: &str, after: Duration, failed: usize) {
    let after = Duration::from_millis(after.as_millis().try_into().unwrap_or(u64::MAX));
    tracing::warn!(
        store,
        failed,
        "the session store is reachable again after {after:?}"
    );
}

/// A client is told to come back later.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables))]
pub(crate) fn unavailable(cause: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("session_unavailable_total", "cause" => cause).increment(1);
}

/// A stored value does not fit its field's type.
pub(crate) fn undecodable(field: &str) {
    count!("undecodable");
    tracing::warn!(
        field,
        "a stored value does not fit its field's type: the default is served, the bytes are kept"
    );
}

/// Changes were dropped after the response had been decided.
pub(crate) fn unsaved(fields: usize) {
    if fields == 0 {
        return;
    }
    count!("unsaved");
    tracing::error!(
        fields,
        "a session handle outlived its response and was dropped with unsaved changes: call `save().await`"
    );
}

/// A handle that is older than a logout, login or deletion was dropped with changes.
pub(crate) fn outdated(fields: usize) {
    if fields == 0 {
        return;
    }
    count!("outdated");
    tracing::warn!(
        fields,
        "a session handle was dropped with changes, but the session was ended or replaced meanwhile through another handle: they are dropped"
    );
}

/// A handle was opened while another of its request holds changes that it does not see.
pub(crate) fn unseen(schema: &'static str) {
    count!("unseen");
    tracing::warn!(
        schema,
        "a session handle is opened while another one of the same request is open and changed: what that changed is not seen; drop it before, in a middleware before `next.run`"
    );
}

/// Two handles of one request changed a field that has no rule.
pub(crate) fn overwritten(field: &str) {
    count!("overwritten");
    tracing::warn!(
        field,
        "two session handles of one request changed the same field, and the one that was dropped last counts: drop the first before the second is opened, or give the field a rule, such as `#[merge(append, browser)]` for notices"
    );
}

/// Two requests wrote the same slot, and it is being settled.
pub(crate) fn conflict() {
    count!("conflict");
    tracing::debug!("another request wrote the same fields: merging");
}

/// Conflicts went on until the deadline.
pub(crate) fn unsettled() {
    count!("unsettled");
    tracing::error!("a conflict could not be settled before the deadline");
}

/// The session ended while the request was running, so what the request changed is dropped.
pub(crate) fn gone() {
    count!("gone");
    tracing::debug!("the session ended meanwhile: changes are dropped");
}

/// A lifetime could not be extended; nothing is lost yet.
pub(crate) fn untouched(error: impl fmt::Display) {
    count!("untouched");
    tracing::warn!(%error, "the session's lifetime could not be extended");
}

/// The client presented something that is no session id, or two of them.
pub(crate) fn malformed(why: &'static str) {
    count!("malformed");
    tracing::warn!(
        why,
        "what the client presented is no session id: it is treated as a guest"
    );
}

/// Hints that a layer gives once: of a mistake in its settings or its routes, which each visitor would bring up again.
#[derive(Default)]
pub(crate) struct Hints {
    refused: AtomicUsize,
    cross_site: AtomicBool,
    within: AtomicBool,
}

impl Hints {
    /// A browser on plain http, which has no cookie, was sent one that it will not keep. The first time it may be on
    /// `localhost`, where some keep it.
    pub(crate) fn refused(&self) {
        if self.refused.fetch_add(1, Ordering::Relaxed) == 1 {
            tracing::warn!(
                "browsers visit over plain http and come without a cookie: there they drop one that is `Secure`. Serve https; for development, call `SessionLayer::insecure()`"
            );
        }
    }

    /// A layer stands within another, of the same cookie and another store.
    pub(crate) fn within(&self) {
        if !self.within.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "two session layers of one cookie and different stores stand around a route: the outer one's sessions are used. Take one away, or give one of them a cookie of another name"
            );
        }
    }

    /// A form of another site's, or under `SameSite=Strict` a link, has begun a guest's session, which is not kept.
    pub(crate) fn cross_site(&self) {
        if !self.cross_site.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a page of another site has had a browser send this request, without the cookie that it may have here: what the handler has set begins no session, which would take the place of that cookie. Look up what the request is about by what it says itself, and redirect to a page of your own (303): there the browser brings its cookie, unless that is `SameSite=Strict`, which no link of another site brings either"
            );
        }
    }
}
