//! Events: what an app is told of the lives of sessions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::clock::{Clock, Timestamp};
use crate::key::{Key, UserId};
use crate::record::Ended;

/// Tells of something that happened to a session, to [`SessionLayer::on_event`](crate::SessionLayer::on_event).
///
/// ```
/// use session_runtime::{Event, EventKind, SessionLayer, store::MemoryStore};
///
/// let layer = SessionLayer::new(MemoryStore::new()).on_event(|event: Event| match event.kind {
///     EventKind::Ended(reason) => println!("{:?} has ended: {reason:?}", event.session),
///     EventKind::Merged => println!("a guest's things are now a user's"),
///     _ => {}
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The thing that happened.
    pub kind: EventKind,
    /// The session's key, which stays the same for as long as the session lives.
    pub session: Key,
    /// The user whose session it is; `None` for a guest's, and where nobody looked.
    pub user: Option<UserId>,
    /// The time of it, by the layer's clock.
    pub at: Timestamp,
}

/// Says what happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It was created: by the first write of a guest, or by a login.
    Created,
    /// The user was credited with what a guest had gathered: by the login, or later, when a schema is extracted that
    /// the login did not know, or for a request that was under way.
    Merged,
    /// It has ended. [`Ended::Expired`] is told when it is swept, and only by stores that are swept: not by
    /// those whose engine drops what has expired by itself.
    Ended(Ended),
}

/// Whom to tell.
pub(crate) type Listener = dyn Fn(Event) + Send + Sync;

/// Tells the app, if it wants to be told.
#[derive(Clone)]
pub(crate) struct EventSink {
    listener: Option<Arc<Listener>>,
    /// The listeners of all layers that were cloned from one.
    all: Arc<Mutex<Vec<Weak<Listener>>>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl EventSink {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            listener: None,
            all: Arc::default(),
            clock,
        }
    }

    /// The app wants to be told so from now on, and not as before.
    pub(crate) fn listen(&mut self, listener: Arc<Listener>) {
        let known = Arc::downgrade(&listener);
        self.listener = Some(listener);
        let mut all = self.all();
        all.retain(|listener| listener.strong_count() > 0);
        all.push(known);
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        self.listener.is_some()
    }

    /// Tells what a request of this layer has done to a session.
    pub(crate) fn emit(&self, kind: EventKind, key: &Key, user: Option<&UserId>) {
        self.emit_to(self.listener.as_ref(), kind, key, user);
    }

    /// Tells all layers that were cloned from one what no request has done.
    pub(crate) fn emit_to_all(&self, kind: &EventKind, key: &Key, user: Option<&UserId>) {
        let all: Vec<_> = self.all().iter().filter_map(Weak::upgrade).collect();
        for listener in &all {
            self.emit_to(Some(listener), kind.clone(), key, user);
        }
    }

    /// Records of users are no sessions. A panic of the app's stays here.
    fn emit_to(
        &self,
        listener: Option<&Arc<Listener>>,
        kind: EventKind,
        key: &Key,
        user: Option<&UserId>,
    ) {
        let Some(listener) = listener.filter(|_| !key.is_user()) else {
            return;
        };
        let event = Event {
            kind,
            session: key.clone(),
            user: user.cloned(),
            at: self.clock.now(),
        };
        if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
            tracing::error!("the app's `on_event` panicked");
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Listener>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
