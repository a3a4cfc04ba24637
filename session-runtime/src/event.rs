//! Events: what an app is told of the lives of sessions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::key::{Key, UserId};
use crate::record::Ended;

/// Something that happened to a session, told to [`SessionLayer::on_event`](crate::SessionLayer::on_event).
///
/// ```
/// use session_runtime::{Event, EventKind, SessionLayer, store::MemoryStore};
///
/// let layer = SessionLayer::new(MemoryStore::new()).on_event(|event: Event| match event.kind {
///     EventKind::Ended(reason) => println!("{:?} has ended: {reason:?}", event.session),
///     EventKind::Merged => println!("a guest's things are now {:?}'s", event.user),
///     _ => {}
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The session's key, which changes when the session is rotated. Of [`EventKind::Merged`]: the guest's.
    pub session: Key,
    /// Whose session it is; `None` for a guest's, and where nobody looked.
    pub user: Option<UserId>,
    /// When it happened, by the layer's clock.
    pub at: Timestamp,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It was created: by the first write of a guest, or by a login.
    Created,
    /// What a guest had gathered was credited to the user who logged in. Not told of what the login's schema did not
    /// know, and a later one takes in.
    Merged,
    /// It has ended. [`Ended::Expired`] is told when it is swept, and only by stores that are swept: not by
    /// those whose engine drops what has expired by itself.
    Ended(Ended),
}

/// Whom to tell.
pub(crate) type Listener = dyn Fn(Event) + Send + Sync;

/// Tells the app, if it wants to be told.
#[derive(Clone)]
pub(crate) struct Herald {
    pub(crate) listener: Option<Arc<Listener>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Herald {
    /// Tells what has happened to a session. Records of users are none. A panic of the app's stays here.
    pub(crate) fn tell(&self, kind: EventKind, key: &Key, user: Option<&UserId>) {
        let Some(listener) = self.listener.as_ref().filter(|_| !key.is_user()) else {
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
}
