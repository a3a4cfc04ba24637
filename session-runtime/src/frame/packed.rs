//! A record in two parts, for stores that hold large values beside the rest.

use std::sync::Arc;

use super::encode;
use crate::record::{FieldName, Record, Slot};

/// The largest payload that is packed with the head.
pub(super) const SMALL: usize = 256;

/// A record in two parts: its head with the small slots, and the slots whose payloads stand beside it.
pub(crate) struct Packed<'a> {
    pub(crate) head: Vec<u8>,
    pub(crate) beside: Vec<&'a Arc<Slot>>,
}

/// Packs the smallest payloads into the head, up to `room` bytes together.
pub(crate) fn pack(record: &Record, room: usize) -> Packed<'_> {
    let beside = beside(record, room);
    Packed {
        head: encode(record, |slot| find(&beside, slot).is_some()),
        beside,
    }
}

/// The difference between two records, as a store that holds payloads apart has to write it.
pub(crate) struct Delta<'a> {
    pub(crate) head: Vec<u8>,
    /// Payloads that are new beside the head, or others than before.
    pub(crate) written: Vec<&'a Arc<Slot>>,
    /// Names of payloads that do not stand there any more.
    pub(crate) removed: Vec<&'a FieldName>,
}

/// Compares what stands beside `before`, as any store with that `room` has put it there, with what is to.
pub(crate) fn delta<'a>(before: Option<&'a Record>, after: &'a Record, room: usize) -> Delta<'a> {
    let old = before.map_or_else(Vec::new, |before| beside(before, room));
    let Packed { head, beside: new } = pack(after, room);
    let removed = old.iter().filter(|slot| find(&new, slot).is_none());
    let removed = removed.map(|slot| slot.name()).collect();
    let is_same =
        |slot: &&&'a Arc<Slot>| find(&old, slot).is_some_and(|old| old.has_value_of(slot));
    let written = new.iter().filter(|slot| !is_same(slot)).copied().collect();
    Delta {
        head,
        written,
        removed,
    }
}

/// Finds the slot of the same name, among slots in the order of their names: there may be thousands.
fn find<'a>(slots: &[&'a Arc<Slot>], slot: &Slot) -> Option<&'a Arc<Slot>> {
    let at = slots.binary_search_by(|other| other.name().cmp(slot.name()));
    at.ok().map(|at| slots[at])
}

/// Returns the slots that do not fit into the head, by name. Where a slot stands depends on nothing but the record.
fn beside(record: &Record, room: usize) -> Vec<&Arc<Slot>> {
    let lengths = record.slots().iter().map(|slot| slot.payload().len());
    if lengths.clone().sum::<usize>() <= room && lengths.max() <= Some(SMALL) {
        return Vec::new(); // as mostly
    }
    let mut slots: Vec<_> = record.slots().iter().collect();
    slots.sort_by_key(|slot| slot.payload().len());
    let mut taken = 0;
    let packed = slots.iter().take_while(|slot| {
        taken += slot.payload().len();
        slot.payload().len() <= SMALL && taken <= room
    });
    let packed = packed.count();
    let mut beside = slots.split_off(packed);
    beside.sort_unstable_by(|one, other| one.name().cmp(other.name()));
    beside
}
