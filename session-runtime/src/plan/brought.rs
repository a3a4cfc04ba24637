//! What a guest brings along: set apart in the session under a number when somebody logs in, and credited to the user
//! by the fields' rules, each number once.

use std::sync::Arc;

use super::edit::{Caps, SlotEdit, merge3, replace, same_slot, stored_under};
use super::place::Place;
use crate::clock::Timestamp;
use crate::error::{Error, own_name};
use crate::merge::Occasion;
use crate::record::{FieldName, Record, Slot};
use crate::row::{AnyRow, GUEST, Rows, row_of};

/// What the names of slots begin with that are set apart.
const BROUGHT: &str = "@brought/";

/// The same of what was there before it, where a request changed it that was under way.
const BEFORE: &str = "@before/";

/// One field that was set apart.
pub(crate) struct Brought<'r> {
    pub(crate) number: u32,
    pub(crate) field: &'r str,
    base: Option<&'r Arc<Slot>>,
    ours: Option<&'r Arc<Slot>>,
}

/// Returns what is set apart in a session and has not expired, by number. What it was changed from counts for as long as
/// the change does: without it, all of the value would be taken for what was added.
pub(crate) fn all(session: &Record, now: Timestamp) -> Vec<Brought<'_>> {
    let mut all: Vec<Brought<'_>> = Vec::new();
    for slot in session.slots() {
        let Some((kind, number, field)) = parse(slot.name()) else {
            continue;
        };
        let known = |brought: &&mut Brought<'_>| brought.number == number && brought.field == field;
        let (base, ours) = if kind == BEFORE {
            (Some(slot), None)
        } else {
            (None, Some(slot))
        };
        match all.iter_mut().find(known) {
            Some(brought) => {
                brought.base = brought.base.or(base);
                brought.ours = brought.ours.or(ours);
            }
            None => all.push(Brought {
                number,
                field,
                base,
                ours,
            }),
        }
    }
    all.retain(|brought| {
        let slot = brought.ours.or(brought.base);
        slot.is_some_and(|slot| slot.is_live(now))
    });
    all.sort_by_key(|brought| brought.number);
    all
}

/// Returns `true` if anything is set apart.
pub(crate) fn is_any(session: &Record) -> bool {
    let mut slots = session.slots().iter();
    session.head.brought > 0 && slots.any(|slot| parse(slot.name()).is_some())
}

fn parse(name: &FieldName) -> Option<(&'static str, u32, &str)> {
    let (kind, rest) = [BROUGHT, BEFORE]
        .into_iter()
        .find_map(|kind| Some((kind, name.as_str().strip_prefix(kind)?)))?;
    let (number, field) = rest.split_once('/')?;
    Some((kind, number.parse().ok()?, field))
}

fn apart(kind: &str, number: u32, field: &str, slot: &Slot) -> Arc<Slot> {
    let name = format!("{kind}{number}/{field}");
    Arc::new(slot.named(FieldName::from(name)))
}

/// Sets all fields of a session apart that follow the user, and what is a guest's alone, under the next number. Nobody
/// knows a rule for the latter: it is there for the guest, should the login be refused; where there is nothing to go back
/// to, it goes.
pub(crate) fn set_apart(session: &mut Record, rows: &Rows, now: Timestamp) {
    let is_guests = |slot: &Slot| slot.name().as_str().starts_with(GUEST);
    let comes_back = session.head.undo.is_some();
    let guests = session.slots().iter();
    let guests = guests.filter(|slot| comes_back && is_guests(slot));
    let guests: Vec<_> = guests.cloned().collect();
    session.retain(|slot| !is_guests(slot));
    if !set_fields_apart(session, rows, now) {
        session.head_mut().brought += u32::from(!guests.is_empty());
    }
    let number = session.head.brought;
    for slot in &guests {
        session.set(apart(BROUGHT, number, slot.name().as_str(), slot));
    }
}

/// Notes that a login's id has been presented: there is nothing to go back to, and nothing that is a guest's alone.
pub(crate) fn settle(session: &mut Record) {
    if session.head.undo.is_some() {
        session.head_mut().undo = None;
        session.retain(|slot| match parse(slot.name()) {
            Some((_, _, field)) => !field.starts_with(GUEST),
            None => true,
        });
    }
}

/// Sets all fields of a session apart that follow the user, under the next number. Returns `true` if there were any.
pub(crate) fn set_fields_apart(session: &mut Record, rows: &Rows, now: Timestamp) -> bool {
    let mut found = Vec::new();
    for row in rows.iter().map(|row| row.0).filter(|row| row.follows()) {
        if let Some(slot) = stored_under(row, session, now).cloned() {
            replace(row, session, None);
            found.push((row, slot));
        }
    }
    if found.is_empty() {
        return false;
    }
    session.head_mut().brought += 1;
    let number = session.head.brought;
    for (row, slot) in &found {
        session.set(apart(BROUGHT, number, row.name(), slot));
    }
    true
}

/// Sets apart what a request has changed that was under way when its guest became a user, under the next number.
pub(crate) fn set_edits_apart(
    session: &mut Record,
    edits: &[&SlotEdit],
    caps: Caps,
) -> Result<(), Error> {
    session.head_mut().brought += 1;
    let number = session.head.brought;
    for edit in edits {
        if let Some(base) = &edit.base {
            session.set(apart(BEFORE, number, edit.name(), base));
        }
        if let Some(ours) = &edit.ours {
            caps.check_field(ours)?;
            session.set(apart(BROUGHT, number, edit.name(), ours));
        }
    }
    Ok(())
}

/// Returns `true` if a session holds a field of the user's under its plain name: an older version of the app, or one
/// that did not know the field's rule, has put it there.
pub(crate) fn is_astray(session: &Record, rows: &Rows, now: Timestamp) -> bool {
    let mut follows = rows.iter().map(|row| row.0).filter(|row| row.follows());
    follows.any(|row| stored_under(row, session, now).is_some())
}

/// Returns `true` if anything could be credited that has not been.
pub(crate) fn is_due(session: &Record, place: &Place, rows: &Rows, now: Timestamp) -> bool {
    let due = |brought: &Brought<'_>| {
        !is_credited(place, brought.number, brought.field)
            && row_of(rows, brought.field).is_some_and(AnyRow::follows)
    };
    is_any(session) && all(session, now).iter().any(due)
}

fn is_credited(place: &Place, number: u32, field: &str) -> bool {
    place
        .credited
        .get(field)
        .is_some_and(|upto| number <= *upto)
}

/// Merges into a user's record what a session has set apart and `rows` know a rule for, each number once, and notes
/// that in the session's place. What cannot be merged or has no room stays set apart. Returns `true` if anything was
/// credited.
pub(crate) fn credit(
    user: &mut Record,
    place: &mut Place,
    session: &Record,
    rows: &Rows,
    caps: Caps,
    now: Timestamp,
) -> bool {
    let mut credited = false;
    let mut waits: Vec<&str> = Vec::new();
    for brought in all(session, now) {
        let row = row_of(rows, brought.field).filter(|row| row.follows());
        let (Some(row), false) = (row, waits.contains(&brought.field)) else {
            continue;
        };
        if is_credited(place, brought.number, brought.field) {
            continue;
        }
        match credit_field(user, row, &brought, caps, now) {
            Ok(()) => {
                let field = brought.field.to_owned();
                place.credited.insert(field, brought.number);
                credited = true;
            }
            Err(error) => {
                tracing::warn!(field = own_name(row.name()), %error, "what a guest brought cannot be merged, and stays set apart");
                waits.push(brought.field);
            }
        }
    }
    credited
}

fn credit_field(
    user: &mut Record,
    row: &dyn AnyRow,
    brought: &Brought<'_>,
    caps: Caps,
    now: Timestamp,
) -> Result<(), Error> {
    let theirs = stored_under(row, user, now).cloned();
    let merged = merged(row, brought, theirs.as_ref(), now)?;
    if let Some(slot) = &merged {
        caps.check_field(slot)?;
    }
    let mut after = user.clone();
    replace(row, &mut after, merged);
    caps.check(Some(user), &after)?;
    *user = after;
    Ok(())
}

fn merged(
    row: &dyn AnyRow,
    brought: &Brought<'_>,
    theirs: Option<&Arc<Slot>>,
    now: Timestamp,
) -> Result<Option<Arc<Slot>>, Error> {
    let (base, ours) = (brought.base, brought.ours);
    merge3(row, base, ours, theirs, Occasion::Login, now)
}

/// Notes in the session's place that what is set apart is not wanted, as if it had been credited. Returns `true` if there
/// was any.
pub(crate) fn discard(place: &mut Place, session: &Record, now: Timestamp) -> bool {
    let before = place.credited.clone();
    for brought in all(session, now) {
        let upto = place.credited.entry(brought.field.to_owned()).or_default();
        *upto = brought.number.max(*upto);
    }
    place.credited != before
}

/// Returns what is set apart of one field and not credited, all numbers merged.
pub(crate) fn shown(
    session: &Record,
    place: Option<&Place>,
    row: &dyn AnyRow,
    now: Timestamp,
) -> Option<Arc<Slot>> {
    if !row.follows() {
        return None;
    }
    let mut shown = None;
    for brought in all(session, now) {
        let credited = place.is_some_and(|place| is_credited(place, brought.number, brought.field));
        if row.knows(brought.field) && !credited {
            shown = merged(row, &brought, shown.as_ref(), now).unwrap_or(shown);
        }
    }
    shown
}

/// Drops what the place says is credited. Returns `true` if there was any.
pub(crate) fn drop_credited(session: &mut Record, place: &Place) -> bool {
    drop_where(session, |number, field| is_credited(place, number, field))
}

/// Returns `true` if [`drop_credited`] would drop anything.
pub(crate) fn is_droppable(session: &Record, place: &Place) -> bool {
    let mut names = session.slots().iter().filter_map(|slot| parse(slot.name()));
    session.head.brought > 0 && names.any(|(_, number, field)| is_credited(place, number, field))
}

fn drop_where(session: &mut Record, goes: impl Fn(u32, &str) -> bool) -> bool {
    let before = session.slots().len();
    session.retain(|slot| match parse(slot.name()) {
        Some((_, number, field)) => !goes(number, field),
        None => true,
    });
    session.slots().len() < before
}

/// Gives back to the guest what was set apart under numbers after `since`.
pub(crate) fn give_back(session: &mut Record, since: u32, rows: &Rows, now: Timestamp) {
    let apart = session.clone();
    drop_where(session, |number, _| number > since);
    for brought in all(&apart, now) {
        if brought.number > since {
            give_back_field(session, &brought, rows, now);
        }
    }
}

/// Gives a field back, by its rule; one that nobody knows a rule for goes back as it is.
fn give_back_field(session: &mut Record, brought: &Brought<'_>, rows: &Rows, now: Timestamp) {
    let name = FieldName::from(brought.field);
    let slot = |slot: &Arc<Slot>| Arc::new(slot.named(name.clone()));
    let (base, ours) = (brought.base.map(slot), brought.ours.map(slot));
    let Some(row) = row_of(rows, brought.field) else {
        return ours.into_iter().for_each(|slot| session.set(slot));
    };
    let theirs = stored_under(row, session, now).cloned();
    let occasion = Occasion::Conflict;
    let (base, ours) = (base.as_ref(), ours.as_ref());
    if let Ok(merged) = merge3(row, base, ours, theirs.as_ref(), occasion, now)
        && !same_slot(merged.as_ref(), theirs.as_ref())
    {
        replace(row, session, merged);
    }
}
