//! Schemas: what `#[derive(Session)]` implements, and what opens its cells.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::Error;
use crate::plan::brought;
use crate::plan::place::Place;
use crate::record::{Record, Slot};
use crate::request::{Request, View};
use crate::row::{CellEdit, Lifetime, Row, RowOf};

/// Makes a session of an app's struct. Implemented by `#[derive(Session)]`, and by nothing else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session",
    label = "does not derive `Session`",
    note = "write `#[derive(session_runtime::Session)]` above `struct {Self}`"
)]
pub trait Schema: Sized + Send + Sync + 'static {
    /// The struct of cells, one for each field.
    type Cells: Send + Sync + 'static;

    /// The lifetimes that the struct asks for.
    const LIFETIME: Lifetime;

    /// `true` if reading alone can change the session: some field slides. A flash tells its request when it is read.
    const READING_COUNTS: bool;

    /// The rows: all that is known of each field.
    const ROWS: &'static [RowOf];

    /// Opens the cells over the request's slots.
    fn open(slots: &mut Opener<'_>) -> Self::Cells;

    /// Shows each cell to `visit`, until it fails.
    ///
    /// # Errors
    ///
    /// The first that `visit` returns.
    fn visit(cells: &Self::Cells, visit: &mut Visitor<'_>) -> Result<(), Error>;

    /// Sets every cell to the value of its field.
    fn assign(self, cells: &mut Self::Cells);
}

/// Is called by [`Schema::visit`] for each cell.
pub type Visitor<'a> = dyn FnMut(&dyn Cell) -> Result<(), Error> + 'a;

/// A cell, as the runtime sees it.
pub trait Cell {
    /// Returns the stored name of its field.
    fn name(&self) -> &'static str;

    /// Returns whether its field has a value, and when that expires.
    fn facts(&self) -> (bool, Option<Timestamp>);

    /// Holds it for one more request, if it is a flash.
    fn keep(&self) {}

    /// Adds to `edits` what the handler did to it, if that comes to a change.
    ///
    /// # Errors
    ///
    /// If its value cannot be written.
    fn edit(
        &self,
        now: Timestamp,
        may_slide: MaySlide<'_>,
        edits: &mut Vec<CellEdit>,
    ) -> Result<(), Error>;

    /// Looks whether its value reads back as it is, if it is written, and has not changed unseen, if it was read.
    ///
    /// # Errors
    ///
    /// If not.
    fn check(&self) -> Result<(), Error>;
}

/// Says if using a field that slides lets it live on: not through a passive handle, nor by a clock that cannot be trusted.
pub(crate) type MaySlide<'a> = &'a dyn Fn() -> bool;

/// Hands each cell its slot, in one pass over a record: the browser's session, and where somebody is logged in, for
/// the fields that follow the user, the user's.
///
/// Rows come sorted by stored name, as the macro sorts them, and so do slots.
#[derive(Debug)]
pub struct Opener<'a> {
    session: Cursor<'a>,
    user: Option<Cursor<'a>>,
    /// The session, if anything is set apart in it for the user, and what of it is credited.
    apart: Option<(&'a Record, Option<Place>)>,
    pub(crate) now: Timestamp,
    pub(crate) request: &'a Arc<Request>,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(view: View<'a>, now: Timestamp, request: &'a Arc<Request>) -> Self {
        Self {
            session: Cursor::over(view.session),
            user: view.has_user.then(|| Cursor::over(view.user)),
            apart: view.apart,
            now,
            request,
        }
    }

    /// Returns the slot of `row`, under its name or an older one, if it is there for a reader.
    pub(crate) fn slot<T>(&mut self, row: &Row<T>) -> Option<Arc<Slot>> {
        let cursor = match &mut self.user {
            Some(user) if row.follows_user() => user,
            _ => &mut self.session,
        };
        let is_live = |slot: &&Arc<Slot>| slot.is_live(self.now);
        let own = cursor.advance(row.name()).filter(is_live);
        let found = own.or_else(|| cursor.by_alias(row.older_names(), is_live))?;
        Some(Arc::clone(found))
    }

    /// Returns what is set apart of `row`'s field.
    pub(crate) fn brought<T: Send + Sync + 'static>(
        &self,
        row: &'static Row<T>,
    ) -> Option<Arc<Slot>> {
        let (session, place) = self.apart.as_ref()?;
        brought::shown(session, place.as_ref(), row, self.now)
    }
}

/// Goes through slots once.
#[derive(Debug)]
struct Cursor<'a> {
    slots: &'a [Arc<Slot>],
    next: usize,
}

impl<'a> Cursor<'a> {
    fn over(record: Option<&'a Record>) -> Self {
        let slots = record.map_or(&[][..], Record::slots);
        Self { slots, next: 0 }
    }

    fn advance(&mut self, name: &str) -> Option<&'a Arc<Slot>> {
        while let Some(slot) = self.slots.get(self.next) {
            match slot.name().compare(name) {
                Ordering::Less => self.next += 1,
                Ordering::Equal => {
                    self.next += 1;
                    return Some(slot);
                }
                Ordering::Greater => return None,
            }
        }
        None
    }

    fn by_alias(
        &self,
        aliases: &[&str],
        is_live: impl Fn(&&Arc<Slot>) -> bool,
    ) -> Option<&'a Arc<Slot>> {
        aliases.iter().find_map(|alias| {
            let at = self
                .slots
                .binary_search_by(|slot| slot.name().as_str().cmp(alias))
                .ok()?;
            self.slots.get(at).filter(&is_live)
        })
    }
}
