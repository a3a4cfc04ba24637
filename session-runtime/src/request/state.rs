//! What a request knows and has changed so far. Nothing here waits or calls a store.

use std::mem::take;
use std::sync::Arc;

use super::client::Client;
use super::tracked::TrackedRecord;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::id::SessionId;
use crate::key::{Selector, UserId};
use crate::merge::Occasion;
use crate::observe;
use crate::plan::brought;
use crate::plan::edit::{Caps, SlotEdit, same_payload};
use crate::plan::lifetime::Lifetimes;
use crate::plan::place::{Life, Place, Places};
use crate::plan::save::{FactEdits, Opened, Save, Writer};
use crate::record::{Ended, FieldName, Record, Slot};
use crate::row::{AnyRow, CellEdit, EditKind, GUEST, Lifetime, Rows};
use crate::secret::SecretHash;

#[derive(Default)]
pub(super) struct State {
    /// Who is asking; known once what the client presented has been looked up.
    pub(super) client: Option<Client>,
    /// When that was.
    pub(super) at: Timestamp,
    /// The id that opens the session.
    pub(super) id: Option<OpenedBy>,
    /// The browser's session.
    pub(super) session: TrackedRecord,
    pub(super) facts: FactEdits,
    /// What follows the user, if one is logged in.
    pub(super) user: Option<Box<TrackedUser>>,
    /// Holds the session after the login that the presented id comes from before: whoever logs in or out goes on from there. Or the
    /// session that a login as another user has made before it failed in doubt: that user's next login goes on from it.
    pub(super) superseded: Option<(SessionId, Arc<Record>)>,
    pub(super) flashes: Flashes,
    /// Why what was presented is no session.
    pub(super) ended: Option<Ended>,
    /// Counts logins, logouts and deletions: an older handle folds nothing.
    pub(super) generation: u32,
    /// What the client is to be told.
    pub(super) cookie: Option<CookieAction>,
    /// Why nothing is written any more, if so.
    pub(super) block: Option<WriteBlock>,
    /// There was a panic while the handler ran, and something may have caught it.
    pub(super) caught: bool,
    /// The store has failed to answer: it is not asked for what can wait.
    pub(super) spares_the_store: bool,
    /// Holds the reason for which this request may have ended the session: it does not know whether it has.
    pub(super) ends: Option<Ended>,
    /// Counts how often what handlers had changed was dropped.
    pub(super) drops: u32,
    /// A handle could not be folded, and why.
    pub(super) failure: Option<Error>,
    pub(super) phase: Phase,
    /// Some extractor counts as use.
    pub(super) touch: bool,
    pub(super) lifetime: Lifetime,
}

/// An id that opens the session.
#[derive(Clone, Copy)]
pub(super) struct OpenedBy {
    /// What the client has next: presented, or issued by this request.
    pub(super) id: SessionId,
    /// The one that this request goes by.
    pub(super) own: SessionId,
    /// The secret of that one, where it is at hand: it takes a hash.
    pub(super) secret: Option<SecretHash>,
    /// The client has presented that one.
    pub(super) presents: bool,
}

impl OpenedBy {
    /// Returns the secret of the id that this request goes by.
    pub(super) fn own_secret(&self) -> SecretHash {
        self.secret.unwrap_or_else(|| self.own.secret())
    }
}

/// The user who is logged in.
pub(super) struct TrackedUser {
    pub(super) id: UserId,
    pub(super) record: TrackedRecord,
    /// Nobody has asked for the record yet.
    pub(super) unread: bool,
    /// No session is logged in: it is the app itself that looks and writes.
    pub(super) by_app: bool,
    /// The session's fingerprint has been compared with the user's.
    pub(super) is_checked: bool,
}

/// Flashes of this request alone.
#[derive(Default)]
pub(super) struct Flashes {
    /// Values for this request.
    pub(super) passing: Vec<Arc<Slot>>,
    /// Those that survive being read by it: they were set or kept.
    kept: Vec<FieldName>,
}

/// The flashes of a request whose session is over.
pub(super) struct Notices {
    edits: Vec<SlotEdit>,
    flashes: Flashes,
}

/// Why a request writes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteBlock {
    /// The session ended while the request ran.
    Ended,
    /// A handler panicked.
    Panicked,
    /// The client has logged in or out since: it carries an id that is no more, and will have its new one soon.
    Superseded,
    /// The client may have a session, and has kept its id back: a guest's would take its place.
    CrossSite,
}

impl WriteBlock {
    /// Returns `true` if a login takes along what is set meanwhile.
    fn waits_for_login(self) -> bool {
        matches!(self, Self::Ended | Self::Superseded | Self::CrossSite)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Running,
    /// The response has been decided.
    Closed,
    /// The request was dropped before that.
    Cancelled,
}

/// The change of the client's cookie, or of what it has instead.
#[derive(Clone, Copy, Debug)]
pub(super) enum CookieAction {
    Issue(SessionId),
    Remove,
}

/// The place that a flash which is claimed has to be taken from.
pub(super) enum Claim {
    /// This request had it to itself.
    Ours(Option<Arc<Slot>>),
    /// The session.
    Stored,
}

impl State {
    /// Returns the key of the session, if it is stored.
    pub(super) fn selector(&self) -> Option<Selector> {
        let by = self.id.filter(|_| self.session.stored.is_some());
        by.map(|by| by.id.selector())
    }

    /// Returns who writes to the user's record.
    pub(super) fn writer(&self) -> Option<Writer> {
        match &self.user {
            Some(user) if user.by_app => Some(Writer::App(Life::of(user.record.stored.as_deref()))),
            _ => self.selector().map(Writer::Session),
        }
    }

    /// Returns the session as this request has opened it.
    pub(super) fn opened(&self) -> Option<(Selector, Opened)> {
        let record = self.session.stored.clone()?;
        let by = self.id?;
        Some((by.own.selector(), self.opened_as(record, by)))
    }

    fn opened_as(&self, record: Arc<Record>, by: OpenedBy) -> Opened {
        Opened {
            record,
            secret: by.own_secret(),
            presents: by.presents,
            at: self.at,
        }
    }

    /// Returns the session that the client means, be it that its id comes from before a login.
    pub(super) fn presented(&self) -> Option<(Selector, Opened)> {
        self.opened().or_else(|| self.goes_on_from())
    }

    /// Returns the session that a login goes on from though the request does not see it.
    pub(super) fn goes_on_from(&self) -> Option<(Selector, Opened)> {
        let (id, record) = self.superseded.clone()?;
        let by = OpenedBy {
            id,
            own: id,
            secret: None,
            presents: true,
        };
        Some((id.selector(), self.opened_as(record, by)))
    }

    /// Returns the session's place in its user's record, if that was looked up and anything is set apart in the session.
    pub(super) fn place(&self) -> Option<Place> {
        let session = self.session.stored.as_deref()?;
        if !brought::is_any(session) {
            return None;
        }
        let user = self.user.as_ref()?.record.stored.as_deref();
        let selector = self.selector()?;
        Places::of(user).find(selector).cloned()
    }

    /// The session ended while the request ran.
    pub(super) fn lose(&mut self, reason: Ended) {
        observe::gone();
        self.forget();
        self.ended = Some(reason);
        self.block = Some(WriteBlock::Ended);
    }

    /// Starts over as a guest.
    pub(super) fn forget(&mut self) {
        self.id = None;
        self.session = TrackedRecord::default();
        self.facts = FactEdits::default();
        self.superseded = None;
        self.user = None;
        self.flashes = Flashes::default();
        self.cookie
            .take_if(|cookie| matches!(cookie, CookieAction::Issue(_)));
        self.ends = None;
        self.generation += 1;
    }

    /// Returns whether the browser is to keep the cookie when it is closed, if the session says so itself.
    pub(super) fn keeps_cookie(&self) -> Option<bool> {
        let stored = self.session.stored.as_deref();
        self.facts.kept.or_else(|| stored?.head.kept)
    }

    pub(super) fn lifetimes(&self, config: &Config) -> Lifetimes {
        config.lifetimes(self.lifetime)
    }

    /// Returns how the session is written that was opened so: as it is, but for its use.
    pub(super) fn save<'a>(&self, opened: &'a Opened, config: &Config) -> Save<'a> {
        Save {
            opened,
            edits: &[],
            facts: FactEdits::default(),
            touch: self.touch,
            amid: false,
            lifetimes: self.lifetimes(config),
            caps: config.caps,
            rotate: None,
            place: None,
            astray: &[],
        }
    }

    /// Returns the record that holds the field.
    fn tracked(&mut self, row: &dyn AnyRow) -> &mut TrackedRecord {
        match &mut self.user {
            Some(user) if row.follows() => &mut user.record,
            _ => &mut self.session,
        }
    }

    /// Folds in what a handle did, each cell once: all of it, or nothing.
    pub(super) fn fold(&mut self, mut edits: Vec<CellEdit>, now: Timestamp) -> Result<(), Error> {
        // A login still takes along what is set in a request that writes nothing by itself.
        if self.block.is_some_and(|block| !block.waits_for_login()) {
            return Ok(());
        }
        let mut near = 0;
        for edit in &mut edits {
            self.resolve(edit, now, &mut near)?;
        }
        for edit in edits {
            self.put(edit);
        }
        Ok(())
    }

    /// Turns an edit of what a handle saw into one of what is stored.
    fn resolve(
        &mut self,
        edit: &mut CellEdit,
        now: Timestamp,
        near: &mut usize,
    ) -> Result<(), Error> {
        let row = edit.row;
        let passing = &self.flashes.passing;
        let shown = |base: &mut Arc<Slot>| passing.iter().any(|slot| Arc::ptr_eq(slot, base));
        if edit.base.take_if(shown).is_some() {
            // It was for this request alone. What takes its place takes that of what it has covered, too; where nothing
            // does, that is uncovered.
            match edit.kind {
                EditKind::Kept => edit.kind = EditKind::Changed,
                EditKind::Changed if edit.ours.is_none() => edit.kind = EditKind::Passing,
                _ => {}
            }
            if edit.ours.is_some() {
                edit.base = self.session.current(row, now, near).1.cloned();
            }
        }
        let is_same = || same_payload(edit.base.as_ref(), edit.ours.as_ref());
        if edit.kind == EditKind::Changed && self.session.uses_up(row) && is_same() {
            edit.kind = EditKind::Nothing; // its lifetime alone is changed, and it goes all the same
        }
        let used_up = edit.kind == EditKind::UsedUp;
        match edit.kind {
            EditKind::Changed | EditKind::Slid => {}
            // A flash was read. What this request keeps, or has set itself, stays; so does what it has to itself.
            EditKind::UsedUp => {
                let stays = self.flashes.keeps(row) || self.session.has_set(row);
                if stays || edit.base.is_none() {
                    edit.kind = EditKind::Nothing;
                    return Ok(());
                }
            }
            EditKind::Passing | EditKind::Kept | EditKind::Nothing => return Ok(()),
        }
        let seen = SlotEdit {
            row,
            base: edit.base.take(),
            ours: edit.ours.take(),
            used_up,
        };
        let folded = self
            .tracked(row)
            .folded(seen, Occasion::Conflict, now, near)?;
        (edit.base, edit.ours) = (folded.base, folded.ours);
        Ok(())
    }

    /// Puts a resolved edit among those that are to be written.
    fn put(&mut self, edit: CellEdit) {
        let CellEdit {
            row,
            base,
            ours,
            kind,
        } = edit;
        match kind {
            EditKind::Changed if row.is_flash() => {
                self.flashes.take_passing(row);
                if ours.is_some() {
                    self.flashes.keep(row);
                }
            }
            EditKind::Changed | EditKind::Slid | EditKind::UsedUp => {}
            EditKind::Passing => {
                self.flashes.take_passing(row);
                return self.flashes.passing.extend(ours);
            }
            EditKind::Kept if base.is_some() => return self.keep(row),
            EditKind::Kept | EditKind::Nothing => return,
        }
        let used_up = kind == EditKind::UsedUp;
        self.tracked(row).replace(SlotEdit {
            row,
            base,
            ours,
            used_up,
        });
    }

    /// Puts edits from before a login on top of what is there now, but for what is a guest's alone. One that cannot be merged with
    /// that stays as it was, so that no write passes it over in silence.
    pub(super) fn take_over(&mut self, edits: &[SlotEdit], now: Timestamp) -> Result<(), Error> {
        let stays = |edit: &&SlotEdit| !edit.name().starts_with(GUEST);
        let (mut near, mut outcome) = (0, Ok(()));
        for edit in edits.iter().filter(stays) {
            let (tracked, occasion) = (self.tracked(edit.row), Occasion::Conflict);
            match tracked.folded(edit.clone(), occasion, now, &mut near) {
                Ok(folded) => tracked.replace(folded),
                Err(error) => {
                    tracked.replace(edit.clone());
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Merges what a guest has changed of fields that follow into what the user has, as by a login. What cannot be merged, has no
    /// room, or comes after something that waits, and all of it where nothing migrates, waits to be set apart in the session.
    pub(super) fn bring(
        &mut self,
        mut edits: Vec<SlotEdit>,
        migrates: bool,
        caps: Caps,
        now: Timestamp,
    ) {
        let (session, place) = (self.session.stored.clone(), self.place());
        let waits = |row| {
            let session = session.as_deref()?;
            brought::shown(session, place.as_ref(), row, now)
        };
        let mut near = 0;
        edits.retain(|edit| {
            if !migrates || waits(edit.row).is_some() {
                return true;
            }
            let tracked = self.tracked(edit.row);
            let before = tracked.edits.clone();
            let folded = tracked.folded(edit.clone(), Occasion::Login, now, &mut near);
            let merged = folded.and_then(|folded| {
                tracked.replace(folded);
                tracked.check_sizes(caps, now)
            });
            if merged.is_err() {
                tracked.edits = before;
            }
            merged.is_err()
        });
        self.session.edits = edits;
    }

    /// Returns `true` if something of a guest's waits to be set apart in the user's session.
    pub(super) fn has_to_set_apart(&self) -> bool {
        let mut edits = self.session.edits.iter();
        self.user.is_some() && edits.any(|edit| edit.row.follows())
    }

    /// Returns what the browser has of these fields, to be set in another session: no flashes, and nothing that is a guest's alone.
    pub(super) fn take_along(&self, rows: &Rows, now: Timestamp) -> Vec<SlotEdit> {
        let session = &self.session;
        let rows = rows.iter().map(|row| row.0);
        let stays = |row: &&'static dyn AnyRow| {
            !row.follows() && !row.is_flash() && !row.name().starts_with(GUEST)
        };
        let found = rows.filter(stays).filter_map(|row| {
            let slot = session.current(row, now, &mut 0).1?;
            Some(SlotEdit {
                row,
                base: None,
                ours: Some(Arc::clone(slot)),
                used_up: false,
            })
        });
        found.collect()
    }

    /// Removes the flashes of these rows: what is stored of them, and what this request has set or shows itself.
    pub(super) fn clear_flashes(&mut self, rows: &Rows, now: Timestamp) {
        if self.block.is_some_and(|block| !block.waits_for_login()) {
            return;
        }
        for row in rows.iter().map(|row| row.0).filter(|row| row.is_flash()) {
            self.flashes.forget(row);
            let session = &mut self.session;
            let base = session.current(row, now, &mut 0).0.cloned();
            session.replace(SlotEdit {
                row,
                base,
                ours: None,
                used_up: false,
            });
        }
    }

    /// Takes the flashes that this request has set, keeps, or shows itself: those outlive its session.
    pub(super) fn take_notices(&mut self, rows: &Rows, now: Timestamp) -> Notices {
        let (session, flashes) = (&self.session, take(&mut self.flashes));
        let slot = |row| session.current(row, now, &mut 0).1.cloned();
        let kept = rows.iter().map(|row| row.0);
        let mut edits: Vec<SlotEdit> = Vec::new();
        for row in kept.filter(|row| row.is_flash() && flashes.keeps(*row)) {
            // Several structs may have the flash.
            let is_taken = edits.iter().any(|edit| edit.name() == row.name());
            if let Some(slot) = slot(row).filter(|_| !is_taken) {
                edits.push(SlotEdit {
                    row,
                    base: None,
                    ours: Some(slot),
                    used_up: false,
                });
            }
        }
        Notices { edits, flashes }
    }

    /// Puts them into the session that there is now.
    pub(super) fn put_notices(&mut self, notices: Notices, now: Timestamp) -> Result<(), Error> {
        self.flashes = notices.flashes;
        self.take_over(&notices.edits, now)
    }

    fn keep(&mut self, row: &dyn AnyRow) {
        let edits = &mut self.session.edits;
        edits.retain(|edit| !edit.used_up || edit.name() != row.name());
        self.flashes.keep(row);
    }

    /// Drops what was changed of the user's, with a word in the log: the session it was for is over, or another's.
    pub(super) fn drop_users(&mut self) {
        if let Some(user) = &mut self.user {
            let edits = take(&mut user.record.edits);
            observe::outdated(edits.iter().filter(|edit| edit.is_asked_for()).count());
        }
    }

    /// Forgets what handlers have changed; what is in doubt stays so.
    pub(super) fn forget_changes(&mut self) {
        self.superseded.take_if(|_| self.session.stored.is_some());
        self.failure = None;
        self.facts = FactEdits::default();
        self.flashes = Flashes::default();
        self.session.edits.clear();
        if let Some(user) = &mut self.user {
            user.record.edits.clear();
        }
    }

    /// Nothing of what handlers have changed is to be written.
    pub(super) fn drop_edits(&mut self) {
        self.drops += u32::from(self.is_changed());
        self.facts = FactEdits::default();
        self.session.drop_edits();
        if let Some(user) = &mut self.user {
            user.record.drop_edits();
        }
    }

    /// The client is to be told this id.
    pub(super) fn issue(&mut self, id: SessionId) {
        self.cookie = Some(CookieAction::Issue(id));
        match &mut self.id {
            // Until the client comes with the new id, the request goes by the one that it has presented.
            Some(by) => by.id = id,
            None => {
                self.id = Some(OpenedBy {
                    id,
                    own: id,
                    secret: None,
                    presents: false,
                });
            }
        }
    }

    /// Returns `true` if this request has issued an id already.
    pub(super) fn has_issued(&self) -> bool {
        matches!(self.cookie, Some(CookieAction::Issue(_)))
    }

    /// Returns `true` if the response was decided, and somebody sees it: what a handle reads of flashes after that is used up by its
    /// next write.
    pub(super) fn is_shown(&self) -> bool {
        self.phase == Phase::Closed && self.client.as_ref().is_some_and(|client| client.looks)
    }

    /// Returns the edits of the session and of the user.
    pub(super) fn edits(&self) -> impl Iterator<Item = &SlotEdit> {
        let user = self.user.iter().flat_map(|user| &user.record.edits);
        self.session.edits.iter().chain(user)
    }

    /// Returns `true` if something was changed that is not written yet.
    pub(super) fn is_changed(&self) -> bool {
        self.facts.is_any() || self.edits().any(SlotEdit::is_asked_for)
    }

    /// Returns `true` if there is anything to write that makes a session, or changes one.
    pub(super) fn has_changes(&self) -> bool {
        let user = self
            .user
            .as_ref()
            .is_some_and(|user| !user.record.edits.is_empty());
        let facts = self.session.stored.is_some() && self.facts.is_any();
        self.block.is_none() && (user || facts || !self.session.edits.is_empty())
    }

    /// Notes that a write of this request is in `record`, and that it has issued an id. If it has become another user's by now, nobody here has its
    /// id: a login was opened in doubt, or the guest has logged in elsewhere before the store could tell of the write.
    pub(super) fn written_to(
        &mut self,
        record: &Arc<Record>,
        issued: Option<SessionId>,
        at: Timestamp,
    ) -> Result<(), Error> {
        let stored = self.session.stored.as_deref();
        if record.user() != stored.and_then(Record::user) {
            return self.session.committed_elsewhere(at);
        }
        if let Some(id) = issued {
            self.issue(id);
        }
        self.session.committed(record, at)
    }

    /// Returns `true` if of all changes none is more than that a field lives longer, since it was used.
    pub(super) fn only_slides(&self) -> bool {
        let user = self.user.iter().map(|user| &user.record);
        let in_doubt = user
            .chain([&self.session])
            .any(|record| record.unknown.is_some());
        !in_doubt && !self.facts.is_any() && self.edits().all(SlotEdit::only_slides)
    }

    /// Takes a flash that this request has to itself, or says that the session has it.
    pub(super) fn claim(&mut self, row: &dyn AnyRow) -> Claim {
        if let Some(slot) = self.flashes.take_passing(row) {
            return Claim::Ours(Some(slot));
        }
        let edit = self.session.edit_of(row).cloned();
        self.session.edits.retain(|edit| edit.name() != row.name());
        match edit.filter(|edit| !edit.used_up) {
            Some(edit) => {
                let taken = edit.ours.clone();
                self.session.replace(SlotEdit { ours: None, ..edit });
                Claim::Ours(taken)
            }
            None => Claim::Stored,
        }
    }
}

impl Flashes {
    fn keep(&mut self, row: &dyn AnyRow) {
        self.kept.push(FieldName::fixed(row.name()));
    }

    fn forget(&mut self, row: &dyn AnyRow) {
        self.kept.retain(|kept| kept.as_str() != row.name());
        self.passing
            .retain(|slot| slot.name().as_str() != row.name());
    }

    fn keeps(&self, row: &dyn AnyRow) -> bool {
        self.kept.iter().any(|kept| kept.as_str() == row.name())
    }

    fn take_passing(&mut self, row: &dyn AnyRow) -> Option<Arc<Slot>> {
        let of_row = |slot: &Arc<Slot>| slot.name().as_str() == row.name();
        let at = self.passing.iter().position(of_row)?;
        Some(self.passing.swap_remove(at))
    }
}

impl TrackedUser {
    pub(super) fn unread(id: UserId) -> Self {
        Self {
            id,
            record: TrackedRecord::default(),
            unread: true,
            by_app: false,
            is_checked: false,
        }
    }

    pub(super) fn read(id: UserId, record: Arc<Record>) -> Self {
        Self {
            id,
            record: TrackedRecord::of(record),
            unread: false,
            by_app: false,
            is_checked: true,
        }
    }

    /// As the app itself sees it.
    pub(super) fn seen_by_app(id: UserId, stored: Option<Arc<Record>>) -> Self {
        Self {
            id,
            record: TrackedRecord::of(stored),
            unread: false,
            by_app: true,
            is_checked: true,
        }
    }

    /// The record was looked up for the first time.
    pub(super) fn found(&mut self, record: Arc<Record>) {
        self.record.stored = Some(record);
        self.unread = false;
    }
}
