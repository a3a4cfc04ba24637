//! Flashes: fields that are used up by being read.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::marks::Marks;
use super::{Field, SetFrom};
use crate::clock::Timestamp;
use crate::error::{DecodeError, Error};
use crate::observe;
use crate::plan::edit::same_payload;
use crate::request::Request;
use crate::row::{CellEdit, Row};
use crate::schema::{Cell, MaySlide, Opener};

/// A field that is used up by being read: a notice that survives redirects until it has been shown once.
///
/// ```
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// struct Shop {
///     #[flash]
///     notice: Option<String>,
/// }
///
/// async fn add(mut session: Session<Shop>) -> &'static str {
///     session.notice.set("Added to your cart.");
///     "see /cart"
/// }
///
/// async fn cart(session: Session<Shop>) -> String {
///     session.notice.get().clone().unwrap_or_default() // shown once
/// }
/// # let _ = (add, cart);
/// ```
pub struct Flash<T: 'static> {
    field: Field<T>,
    request: Arc<Request>,
}

impl<T: Send + Sync + 'static> Flash<T> {
    /// The cell of `row`, over the request's slots.
    #[doc(hidden)]
    pub fn open(slots: &mut Opener<'_>, row: &'static Row<T>) -> Self {
        Self {
            request: Arc::clone(slots.request),
            field: Field::open(slots, row),
        }
    }
}

impl<T> Flash<T> {
    /// Returns the value, which is used up by this: unless it is set again or [kept](Self::keep), it is gone at the
    /// end of the request, or with the next [`save`](crate::Session::save) after that. The default while it is absent.
    ///
    /// A request whose answer nobody sees uses nothing up: a HEAD, a prefetch (`Sec-Purpose`), or one that is answered
    /// 304 or 5xx; nor does [`Sessions::open`](crate::Sessions::open). Two requests that overlap may both show it: see [`claim`](Self::claim).
    pub fn get(&self) -> &T {
        self.use_up();
        self.field.get()
    }

    /// Returns the value, without using it up.
    pub fn peek(&self) -> &T {
        self.field.get()
    }

    /// Returns the value, to be changed in place. What is changed lives on to the next request; what is not is used
    /// up.
    pub fn get_mut(&mut self) -> &mut T {
        self.field.marks.raise(Marks::USED);
        self.field.get_mut()
    }

    /// Sets it, for the next request that reads it. Also if that is what it said before.
    ///
    /// A flash of an `Option` needs no `Some`: `session.notice.set("Saved.")`.
    pub fn set<V>(&mut self, value: V)
    where
        T: SetFrom<V>,
    {
        self.field.set(value);
    }

    /// Shows a value in this request alone, through the same [`get`](Self::get). What is stored is left for the
    /// next one; what has been [`set`](Self::set) through this handle, and not saved, makes way for it.
    pub fn now<V>(&mut self, value: V)
    where
        T: SetFrom<V>,
    {
        self.field.set(value);
        self.field.marks.raise(Marks::PASSING);
    }

    /// Holds it for one more request, though it is read in this one; a value for [`now`](Self::now), too.
    pub fn keep(&mut self) {
        self.field.marks.raise(Marks::KEPT);
    }

    /// Takes the value out. The default if it was absent. A value for [`now`](Self::now) uncovers what is
    /// stored.
    #[must_use = "to drop the value, call `clear`"]
    pub fn take(&mut self) -> T {
        let passing = self.field.marks.has(Marks::PASSING);
        let taken = self.field.take();
        if passing {
            self.field.marks.replace(0);
        }
        taken
    }

    /// Removes it unread.
    pub fn clear(&mut self) {
        self.field.clear();
    }

    /// Returns `true` if there is something to read. Does not use it up.
    pub fn is_present(&self) -> bool {
        self.field.is_present()
    }

    /// Returns the value, used up, unless what is stored does not fit the field's type.
    ///
    /// # Errors
    ///
    /// If it does not; [`get`](Self::get) serves the default then.
    pub fn try_get(&self) -> Result<&T, DecodeError> {
        let value = self.field.try_get()?;
        self.use_up();
        Ok(value)
    }

    fn use_up(&self) {
        self.field.marks.raise(Marks::USED);
        self.request.reads_flash();
    }

    /// Gives it a lifetime from now; also a value that is set after this through the same handle, as
    /// [`Field::expire_in`](crate::Field::expire_in) does.
    pub fn expire_in(&mut self, lifetime: Duration) {
        self.field.expire_in(lifetime);
    }

    /// Lets it live as long as the session, or until it is read.
    pub fn persist(&mut self) {
        self.field.persist();
    }

    /// Returns when it expires unread; `None` if it does not, or is absent.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.field.expires_at()
    }
}

impl<T: Send + Sync + 'static> Flash<T> {
    /// Takes the value out of the store before it returns: of all requests that claim it, exactly one gets
    /// it, with what this handle has changed in place, if it is the one that was changed. `None` if it is absent, or someone else
    /// was first.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached before the deadline, or what was changed in place cannot be stored.
    pub async fn claim(&mut self) -> Result<Option<T>, Error> {
        let changed = match self.field.value.get() {
            Some(opened) if self.field.marks.has(Marks::BORROWED) => {
                self.field.new_payload(opened)?.is_some()
            }
            _ => false,
        };
        if self.field.marks.has(Marks::SET) || changed && self.field.slot.is_none() {
            return Ok(Some(self.take()));
        }
        let row = self.field.row;
        if !self.is_present() {
            return Ok(None); // it does not decode and is kept, if it is there at all
        }
        let claimed = Arc::clone(&self.request).claim(row).await?;
        let own = changed.then(|| self.take());
        let seen = self.field.slot.take();
        self.field.clear();
        let Some(slot) = claimed else {
            return Ok(None);
        };
        if own.is_some() && same_payload(seen.as_ref(), Some(&slot)) {
            return Ok(own);
        }
        let decoded = row.decode_payload(slot.payload());
        if decoded.is_err() {
            observe::undecodable(row.name());
        }
        Ok(decoded.ok())
    }
}

impl<T: Send + Sync + 'static> Cell for Flash<T> {
    fn name(&self) -> &'static str {
        self.field.name()
    }

    fn facts(&self) -> (bool, Option<Timestamp>) {
        self.field.facts()
    }

    fn keep(&self) {
        self.field.marks.raise(Marks::KEPT);
    }

    fn edit(
        &self,
        now: Timestamp,
        may_slide: MaySlide<'_>,
        edits: &mut Vec<CellEdit>,
    ) -> Result<(), Error> {
        self.field.edit(now, may_slide, edits)
    }

    fn check(&self) -> Result<(), Error> {
        self.field.check()
    }
}

impl<T> fmt::Debug for Flash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.field.fmt(f)
    }
}
