//! The record of the user who is logged in, or is about to be, and the marks in it that say what has been credited.

use std::fmt::Display;
use std::sync::Arc;

use tokio::time::Instant;

use super::Request;
use super::gathered::Gathered;
use super::part::Part;
use crate::change::{Change, Committed, Expiry, Kind, SlotChange, SlotOp};
use crate::clock::Timestamp;
use crate::commit::{self, Pending, SUPERSEDED, epoch, fact, same_payload};
use crate::error::Error;
use crate::id::random_text;
use crate::key::{Key, UserId};
use crate::record::{FieldName, Record, Slot};
use crate::schema::facts;

/// User records do not expire.
const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// Whose session it is, if it is not a guest's.
pub(super) fn owner_of(session: &Record) -> Option<UserId> {
    fact(session, &facts::USER).map(UserId::from)
}

/// What follows the user of a session, if somebody is logged in. It is not looked up yet.
pub(super) fn account_of(session: &Record) -> Option<Part> {
    let user = owner_of(session)?;
    Some(Part {
        key: Some(Key::User(user)),
        unread: true,
        ..Part::default()
    })
}

/// A change to a user's record, of what is pending.
pub(super) fn change_of(account: &Record, pending: &[Pending], now: Timestamp) -> Change {
    let changes = pending.iter().flat_map(Pending::to_changes);
    Change {
        slots: changes.chain(lapsed_marks(account, now)).collect(),
        unchanged: vec![epoch::unchanged(account)],
        ..Change::new(Kind::Update, now)
    }
}

/// What the names of marks begin with.
const MARK: &str = "@merged/";

/// The mark of a guest's record, by its key, or of a slot that waited, by its name.
pub(super) fn mark_of(credited: impl Display) -> String {
    format!("{MARK}{credited}")
}

/// What a mark says of what has been credited, or of a session whose place another has taken.
const CREDITED: &str = "true";

/// Whether a mark is there. One that is *void* says the contrary.
pub(super) fn is_credited(account: &Record, mark: &str) -> bool {
    let mark = account.slot(mark);
    mark.is_some_and(|mark| *mark.payload() == *CREDITED)
}

/// Takes out the marks of what can be presented no more.
fn lapsed_marks(account: &Record, now: Timestamp) -> impl Iterator<Item = SlotChange> {
    let slots = account.slots().iter();
    let lapsed =
        slots.filter(move |slot| slot.name().as_str().starts_with(MARK) && !slot.is_live(now));
    lapsed.map(|slot| SlotChange {
        name: slot.name().clone(),
        base: None, // lapsed is absent
        to: SlotOp::Drop,
    })
}

/// How long a mark of a frozen record is kept: while that can be presented, which nothing extends, and a while longer,
/// since clocks disagree.
fn lapse_of(frozen: &Record, now: Timestamp) -> Timestamp {
    frozen.expires.max(now) + SUPERSEDED
}

fn set_mark(name: String, says: String, base: Option<&Arc<Slot>>, until: Timestamp) -> Pending {
    let slot = Slot::new(name.clone(), says, Some(until));
    Pending::raw(FieldName::from(name), base.cloned(), Some(Arc::new(slot)))
}

/// The mark of what is frozen, if it is not there yet. Fails if that has been given back since the login began.
pub(super) fn mark_frozen(
    account: &Record,
    gathered: &Gathered,
    now: Timestamp,
) -> Result<Option<Pending>, Error> {
    let Some((key, frozen)) = &gathered.frozen else {
        return Ok(None);
    };
    let name = mark_of(key);
    if is_credited(account, &name) {
        return Ok(None);
    }
    let void = account.live_slot(&name, now);
    if void.is_some() && !same_payload(void, gathered.void.as_ref()) {
        return Err(Error::unsettled());
    }
    let until = lapse_of(frozen, now);
    Ok(Some(set_mark(name, CREDITED.to_owned(), void, until)))
}

impl Request {
    /// Looks up what follows the user, once, for a schema that has such fields.
    pub(crate) async fn load_account(&self) -> Result<(), Error> {
        let _gate = self.gate().await?;
        let Some(user) = self.unread_account() else {
            return Ok(());
        };
        let stored = commit::look_up(&self.config, &user).await?;
        if let Some(account) = &mut self.state().account {
            account.stored = stored;
            account.unread = false;
        }
        Ok(())
    }

    /// The key of what follows the user, if somebody is logged in and it was not looked up yet.
    pub(crate) fn unread_account(&self) -> Option<Key> {
        let state = self.state();
        let account = state.account.as_ref().filter(|account| account.unread)?;
        account.key.clone()
    }

    /// The user's record as the login begins. A user who has none gets one: whoever deletes the user from then
    /// on deletes that.
    pub(super) async fn begin(&self, user: &Key) -> Result<Arc<Record>, Error> {
        let deadline = Instant::now() + self.config.deadline;
        while Instant::now() < deadline {
            if let Some(account) = commit::look_up(&self.config, user).await? {
                return Ok(account);
            }
            let change = Change {
                slots: epoch::first().to_changes().collect(),
                expiry: Expiry::Set(FOREVER),
                ..Change::new(Kind::Create, self.config.now())
            };
            match commit::ask(&self.config, &mut user.clone(), &change).await? {
                Committed::Applied => {
                    let mut account = Record::new(change.now, FOREVER);
                    change.apply(&mut account);
                    return Ok(Arc::new(account));
                }
                Committed::Exists => {}
                _ => return Err(Error::revoked()),
            }
        }
        Err(Error::unsettled())
    }

    /// Makes the change to a record that `plan` makes of it, once more whenever another was quicker. The record
    /// that comes of it; `None` if there is none any more.
    pub(super) async fn amend(
        &self,
        key: &Key,
        mut record: Arc<Record>,
        deadline: Instant,
        mut plan: impl FnMut(&Record) -> Result<Option<Change>, Error>,
    ) -> Result<Option<Arc<Record>>, Error> {
        let mut key = key.clone();
        while Instant::now() < deadline {
            let Some(change) = plan(&record)? else {
                return Ok(Some(record));
            };
            match commit::ask_until(&self.config, &mut key, &change, deadline).await? {
                Committed::Applied => {
                    change.apply(Arc::make_mut(&mut record));
                    return Ok(Some(record));
                }
                Committed::Conflict(newer) => record = newer,
                _ => return Ok(None),
            }
        }
        Err(Error::unsettled())
    }

    /// A mark of a slot that waited, that stays for as long as its session could.
    pub(super) fn mark(&self, name: String, now: Timestamp) -> Pending {
        let policy = self.state().policy(&self.config);
        set_mark(name, CREDITED.to_owned(), None, now + policy.absolute)
    }

    /// Sees to it that what is frozen under `key` for a login of `user` is credited no more, whatever is on its way.
    /// `false` if it has been credited already.
    pub(super) async fn make_void(
        &self,
        user: UserId,
        key: &Key,
        frozen: &Record,
    ) -> Result<bool, Error> {
        let user = Key::User(user);
        let Some(account) = commit::look_up(&self.config, &user).await? else {
            return Ok(true); // who has no record is credited nothing
        };
        let name = mark_of(key);
        let plan = |account: &Record| {
            if is_credited(account, &name) {
                return Ok(None);
            }
            let now = self.config.now();
            let (base, until) = (account.live_slot(&name, now), lapse_of(frozen, now));
            let void = set_mark(name.clone(), format!("\"{}\"", random_text()), base, until);
            Ok(Some(change_of(account, &[void], now)))
        };
        let deadline = Instant::now() + self.config.deadline;
        let account = self.amend(&user, account, deadline, plan).await?;
        Ok(account.is_none_or(|account| !is_credited(&account, &name)))
    }
}
