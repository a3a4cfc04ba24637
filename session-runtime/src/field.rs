//! Cells: the fields of a session, as handlers use them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;
use crate::error::{DecodeError, Error, own_name};
use crate::observe;
use crate::plan::edit::{same_payload, same_slot};
use crate::record::{Expiry, Payload, Slot};
use crate::row::{AnyRow, CellEdit, EditKind, Row};
use crate::schema::{Cell, MaySlide, Opener};

mod flash;
mod marks;
mod set;

pub use flash::Flash;
use marks::Marks;
pub use set::SetFrom;

/// One field of a session.
///
/// It is decoded when it is first read, and encoded, if it was borrowed mutably, when the request ends. It holds the value and is not
/// the value: it is [`set`](Self::set), not assigned.
///
/// ```
/// use session_runtime::Session;
///
/// #[derive(Session)]
/// struct Visits {
///     #[merge(sum, browser)]
///     count: u32,
///     name: Option<String>,
/// }
///
/// async fn count(mut session: Session<Visits>) -> String {
///     *session.count.get_mut() += 1;
///     session.name.set("Ada");
///     format!("You have been here {} times.", session.count.get())
/// }
/// # let _ = count;
/// ```
pub struct Field<T: 'static> {
    row: &'static Row<T>,
    slot: Option<Arc<Slot>>,
    value: OnceLock<Box<Opened<T>>>,
    marks: Marks,
}

/// A decoded value, and what few have besides.
struct Opened<T> {
    value: T,
    /// When it is to expire, if that was said.
    lifetime: Lifetime,
    /// The slot that is set apart of the field for the user. Here, and not in the cell: a session has a cell for each field, used or not.
    brought: Option<Arc<Slot>>,
}

impl<T> From<T> for Opened<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            lifetime: Lifetime::Usual,
            brought: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// As stored, or as the field's attribute says once it is set.
    Usual,
    /// From the moment it is written.
    For(Duration),
    /// As long as the session.
    Session,
}

impl<T: Send + Sync + 'static> Field<T> {
    /// The cell of `row`, over the request's slots.
    #[doc(hidden)]
    pub fn open(slots: &mut Opener<'_>, row: &'static Row<T>) -> Self {
        let mut field = Self {
            row,
            slot: slots.slot(row),
            value: OnceLock::new(),
            marks: Marks::new(slots.now),
        };
        field.show_brought(slots.brought(row));
        field
    }
}

impl<T> Field<T> {
    /// Returns what the guest had gathered in the field before the login, where it has not been merged into the user's: since
    /// [`SessionLayer::migrate`](crate::SessionLayer::migrate) is off, or it had no room. `None` if
    /// there is nothing. [`Session::migrate`](crate::Session::migrate) and
    /// [`discard`](crate::Session::discard) settle it.
    pub fn brought(&self) -> Option<T> {
        let slot = self.value.get()?.brought.as_ref()?;
        self.row.decode_payload(slot.payload()).ok()
    }

    /// Returns the value; the default while the field is absent.
    pub fn get(&self) -> &T {
        self.slide();
        &self.opened().value
    }

    /// Returns the value, to be changed in place. The field keeps the lifetime that it has.
    ///
    /// If it is the same at the end of the request, nothing is written.
    pub fn get_mut(&mut self) -> &mut T {
        self.slide();
        self.marks.raise(Marks::BORROWED);
        &mut self.opened_mut().value
    }

    /// Replaces the value. Its lifetime starts anew, or is what [`expire_in`](Self::expire_in) has said through this handle.
    ///
    /// A field of an `Option` needs no `Some`, and text no `to_owned()`: `session.name.set("Ada")`.
    ///
    /// The session is borrowed for it. So what comes of the session itself is looked up before:
    ///
    /// ```
    /// # use session_runtime::Session;
    /// # #[derive(Session)]
    /// # struct Shop { greeting: Option<String> }
    /// async fn greet(mut session: Session<Shop>) {
    ///     let greeting = session.user().map(|user| format!("Hello, {user}."));
    ///     session.greeting.set(greeting);
    /// }
    /// # let _ = greet;
    /// ```
    pub fn set<V>(&mut self, value: V)
    where
        T: SetFrom<V>,
    {
        let value = T::set_from(value);
        match self.value.get_mut() {
            Some(opened) => opened.value = value,
            None => self.value = Box::new(Opened::from(value)).into(),
        }
        self.marks.replace(Marks::SET);
    }

    /// Takes the value out, and leaves the field absent. The default if it was absent; what is stored and does not fit the field's type stays there.
    #[must_use = "to drop the value, call `clear`"]
    pub fn take(&mut self) -> T {
        self.opened();
        let failed = self.marks.has(Marks::FAILED);
        let taken = self.value.take();
        self.marks.replace(if failed {
            Marks::FAILED
        } else {
            Marks::CLEARED
        });
        let Some(taken) = taken else {
            return self.row.default();
        };
        let Opened {
            value,
            lifetime,
            brought,
        } = *taken;
        self.keep_besides(lifetime, brought);
        value
    }

    /// Leaves the field absent.
    pub fn clear(&mut self) {
        let opened = self.value.take();
        self.marks.replace(Marks::CLEARED);
        if let Some(opened) = opened {
            self.keep_besides(opened.lifetime, opened.brought);
        }
    }

    /// Keeps what there was besides a value that has gone: its lifetime is that of a value which is set after this.
    fn keep_besides(&mut self, lifetime: Lifetime, brought: Option<Arc<Slot>>) {
        if lifetime != Lifetime::Usual {
            self.live(lifetime);
        }
        self.show_brought(brought);
    }

    fn show_brought(&mut self, brought: Option<Arc<Slot>>) {
        if brought.is_some() {
            self.opened_mut().brought = brought;
        }
    }

    /// Returns `true` if the field has a value, be it stored, set just now, or borrowed by [`get_mut`](Self::get_mut).
    pub fn is_present(&self) -> bool {
        if self.marks.has(Marks::SET | Marks::BORROWED) {
            return true;
        }
        let stored = self.slot.is_some() && !self.marks.has(Marks::CLEARED);
        stored && {
            self.opened();
            !self.marks.has(Marks::FAILED)
        }
    }

    /// Returns the value, unless what is stored does not fit the field's type.
    ///
    /// # Errors
    ///
    /// If it does not; [`get`](Self::get) serves the default then. The stored bytes are kept until the field
    /// is set.
    pub fn try_get(&self) -> Result<&T, DecodeError> {
        let value = self.get();
        let failed = self.marks.has(Marks::FAILED) && !self.marks.has(Marks::SET | Marks::BORROWED);
        match self
            .stored()
            .filter(|_| failed)
            .map(|slot| self.row.decode_payload(slot.payload()))
        {
            Some(Err(error)) => Err(DecodeError::new(self.row.name(), &error)),
            _ => Ok(value),
        }
    }

    /// Gives the field a lifetime from now, whatever its attribute says; also a value that is set after this through the same
    /// handle, before that [saves](crate::Session::save) or does anything else that waits. It holds until another request sets the
    /// field, be it used or changed in place meanwhile. No effect on a field that stays absent.
    pub fn expire_in(&mut self, lifetime: Duration) {
        self.live(Lifetime::For(lifetime));
    }

    /// Lets the field live as long as the session.
    pub fn persist(&mut self) {
        self.live(Lifetime::Session);
    }

    /// Returns when the field expires; `None` if it lives as long as the session, or is absent.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expiry().map(Into::into)
    }

    /// It is used, which lets a sliding field live on.
    fn slide(&self) {
        if self.row.slides().is_some() {
            self.marks.raise(Marks::USED);
        }
    }

    fn live(&mut self, lifetime: Lifetime) {
        self.opened_mut().lifetime = lifetime;
    }

    fn expiry(&self) -> Option<Timestamp> {
        let at_end = || self.expiry_at(self.marks.opened_at(), &|| false).at();
        self.is_present().then(at_end).flatten()
    }

    /// Returns when the value expires that the field has at the end of the request, if that is at `now`. `may_slide` says whether
    /// having used it counts.
    fn expiry_at(&self, now: Timestamp, may_slide: MaySlide<'_>) -> Expiry {
        match self.lifetime() {
            Lifetime::For(lifetime) if self.row.slides().is_some() => Expiry::Asked(now + lifetime),
            Lifetime::For(lifetime) => Expiry::Usual(now + lifetime),
            Lifetime::Session => Expiry::Never,
            Lifetime::Usual => match self.kept() {
                Some(slot) => self.slid(slot.expiry(), now, may_slide),
                None => self.row.expiry(now).into(),
            },
        }
    }

    /// The stored slot, if its lifetime goes on: the field was changed in place at most.
    fn kept(&self) -> Option<&Arc<Slot>> {
        let anew = self.marks.has(Marks::SET | Marks::FAILED);
        self.stored().filter(|_| !anew)
    }

    /// A used field that slides lives on, unless it was given another lifetime; written at most every tenth of its own.
    fn slid(&self, stored: Expiry, now: Timestamp, may_slide: MaySlide<'_>) -> Expiry {
        let slides = self.row.slides().filter(|_| self.marks.has(Marks::USED));
        let (Expiry::Usual(expires), Some(ttl)) = (stored, slides) else {
            return stored;
        };
        let extended = now + ttl;
        if extended.since(expires) >= ttl / 10 && may_slide() {
            Expiry::Usual(extended)
        } else {
            stored
        }
    }

    /// Returns what was said of its lifetime.
    fn lifetime(&self) -> Lifetime {
        self.value
            .get()
            .map_or(Lifetime::Usual, |opened| opened.lifetime)
    }

    /// Returns what is stored, unless it was cleared.
    fn stored(&self) -> Option<&Arc<Slot>> {
        self.slot
            .as_ref()
            .filter(|_| !self.marks.has(Marks::CLEARED))
    }

    fn opened(&self) -> &Opened<T> {
        self.value.get_or_init(|| Box::new(self.decode()))
    }

    fn opened_mut(&mut self) -> &mut Opened<T> {
        if self.value.get().is_none() {
            self.value = Box::new(self.decode()).into();
        }
        self.value.get_mut().expect("it was just filled")
    }

    fn decode(&self) -> Opened<T> {
        let decoded = self
            .stored()
            .map(|slot| self.row.decode_payload(slot.payload()));
        if matches!(decoded, Some(Err(_))) {
            self.marks.raise(Marks::FAILED);
            observe::undecodable(own_name(self.row.name()));
        }
        let decoded = decoded.and_then(Result::ok);
        decoded.unwrap_or_else(|| self.row.default()).into()
    }

    /// Decodes once more what `get_mut` handed out.
    fn handed_out(&self) -> T {
        let stored = self
            .stored()
            .and_then(|slot| self.row.decode_payload(slot.payload()).ok());
        stored.unwrap_or_else(|| self.row.default())
    }
}

impl<T: Send + Sync + 'static> Field<T> {
    /// Returns what is to be in the slot's place at the end of the request.
    fn outcome(&self, now: Timestamp, may_slide: MaySlide<'_>) -> Result<Option<Arc<Slot>>, Error> {
        let payload = match self.value.get() {
            Some(opened) if self.marks.has(Marks::SET | Marks::BORROWED) => {
                self.new_payload(opened)?
            }
            _ => None,
        };
        Ok(match payload {
            Some(payload) => Some(self.row.own_slot(payload, self.expiry_at(now, may_slide))),
            None if self.is_used_up() => None,
            None => self.stored().map(|slot| self.retimed(slot, now, may_slide)),
        })
    }

    /// The stored slot, with the expiry that it is to have.
    fn retimed(&self, slot: &Arc<Slot>, now: Timestamp, may_slide: MaySlide<'_>) -> Arc<Slot> {
        if self.marks.has(Marks::FAILED) {
            return Arc::clone(slot);
        }
        let expiry = self.expiry_at(now, may_slide);
        if expiry == slot.expiry() {
            Arc::clone(slot)
        } else {
            Arc::new(slot.expiring(expiry))
        }
    }

    /// Returns what is to be stored, if it is another value.
    fn new_payload(&self, opened: &Opened<T>) -> Result<Option<Payload>, Error> {
        let stored = self.stored();
        let about = stored.map_or(0, |slot| slot.payload().len());
        let encode = |value: &T| {
            self.row
                .encode_value(value, about)
                .map_err(|error| Error::encode(self.row.name(), error))
        };
        let payload = encode(&opened.value)?;
        if self.marks.has(Marks::SET) {
            return Ok(Some(payload));
        }
        if let Some(slot) = stored {
            if slot.payload() == &*payload {
                return Ok(None);
            }
            // This process has written it, and so in the same way.
            if slot.name().is_of_row(self.row.own_name()) {
                return Ok(Some(payload));
            }
        }
        // The stored bytes may be another way to say what was handed out: written by a version of the app
        // that knows more, or less.
        let handed_out = encode(&self.handed_out())?;
        Ok((*handed_out != *payload).then_some(payload))
    }

    fn is_used_up(&self) -> bool {
        let spared = self.marks.has(Marks::KEPT | Marks::FAILED);
        self.row.is_flash() && self.marks.has(Marks::USED) && !spared
    }

    /// Returns `true` if `ours` differs from what is stored by its expiry alone, since the field was used.
    fn only_slid(&self, ours: Option<&Arc<Slot>>) -> bool {
        same_payload(self.slot.as_ref(), ours)
            && !self.marks.has(Marks::SET)
            && self.lifetime() == Lifetime::Usual
    }
}

impl<T: Send + Sync + 'static> Cell for Field<T> {
    fn name(&self) -> &'static str {
        self.row.name()
    }

    fn facts(&self) -> (bool, Option<Timestamp>) {
        (self.is_present(), self.expiry())
    }

    fn edit(
        &self,
        now: Timestamp,
        may_slide: MaySlide<'_>,
        edits: &mut Vec<CellEdit>,
    ) -> Result<(), Error> {
        if self.value.get().is_some() || self.marks.has(Marks::ANY & !Marks::FAILED) {
            edits.extend(self.edit_of_touched(now, may_slide)?);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let Some(opened) = self.value.get() else {
            return Ok(());
        };
        let checked = if self.marks.has(Marks::SET | Marks::BORROWED) {
            self.row.check_written(&opened.value)
        } else {
            let stored = self.stored().map(AsRef::as_ref);
            self.row.check_read(&opened.value, stored)
        };
        checked.map_err(|error| Error::encode(self.row.name(), error))
    }
}

impl<T: Send + Sync + 'static> Field<T> {
    /// Returns what the handler did to it.
    #[inline(never)] // most cells are not touched, and not to pay for it
    fn edit_of_touched(
        &self,
        now: Timestamp,
        may_slide: MaySlide<'_>,
    ) -> Result<Option<CellEdit>, Error> {
        let retimed = self.lifetime() != Lifetime::Usual;
        if !retimed && !self.marks.has(Marks::ANY & !Marks::FAILED) {
            return Ok(None);
        }
        let ours = self.outcome(now, may_slide)?;
        let same = same_slot(self.slot.as_ref(), ours.as_ref());
        let row: &'static dyn AnyRow = self.row;
        let kind = match same {
            true if self.marks.has(Marks::KEPT) => EditKind::Kept,
            true => return Ok(None),
            false if self.marks.has(Marks::PASSING) && !self.marks.has(Marks::KEPT) => {
                EditKind::Passing
            }
            false if ours.is_none() && !self.marks.has(Marks::CLEARED) => EditKind::UsedUp,
            false if self.only_slid(ours.as_ref()) => EditKind::Slid,
            false => EditKind::Changed,
        };
        Ok(Some(CellEdit {
            row,
            base: self.slot.clone(),
            ours,
            kind,
        }))
    }
}

impl<T> fmt::Debug for Field<T> {
    /// Writes whether there is a value and when it expires; not the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.is_present(), self.expiry())
    }
}

/// Writes a field as `Debug` shows it.
pub(crate) fn describe(
    f: &mut fmt::Formatter<'_>,
    present: bool,
    expires: Option<Timestamp>,
) -> fmt::Result {
    match (present, expires) {
        (false, _) => f.write_str("absent"),
        (true, None) => f.write_str("present"),
        (true, Some(expires)) => write!(f, "present until {} ms", expires.as_millis()),
    }
}
