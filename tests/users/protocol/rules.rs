//! The rules that a run keeps, or the one that it leaves out.

/// Names a rule that a run leaves out, so that a test can show that the exploration notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// Credits everything set apart, whatever the place notes.
    Note,
    /// Confirms a login though a revocation has come between.
    Number,
    /// Forgets the places that have to go instead of marking them as leaving.
    Leaving,
    /// Sends the id of a login that has not been confirmed.
    Confirm,
    /// Gives up an undo as soon as anything else has been written.
    UndoOnce,
    /// Leaves everything as it is if the undone login's secret is not the only current one.
    UndoOnlyCurrent,
    /// Confirms a login on a session whose place is leaving.
    ConfirmLeaving,
    /// Confirms a login on a session whose place has gone since the login looked.
    ConfirmGone,
    /// Retires the current secrets that nobody has presented yet, too.
    RetireUnpresented,
    /// Lets a superseded secret issue another.
    SupersededIssues,
    /// Keeps the secrets of before when a login opens the session.
    LoginKeeps,
    /// Begins a retiring secret's minute with the rotation.
    MinuteAtRotation,
    /// Begins a retiring secret's minute when any secret younger than itself is presented.
    MinuteByAge,
    /// Lets an unpresented secret fall by time alone, with no rotation.
    FallByTime,
    /// Issues a fifth secret though four wait to be presented, and drops the oldest.
    FallByNumber,
    /// Forgets a superseded secret five minutes after the login opened, though nobody has presented what superseded it.
    ForgetByTime,
    /// Counts the last minute of a guest's request from the last presentation instead of the first.
    MinuteOfLast,
    /// Lets a guest's request that was under way write into the user's session for ever.
    NoLastMinute,
    /// Strikes a session off before it is ended.
    StrikeFirst,
    /// Strikes a lapsed session off without ending it.
    StrikeLapsed,
    /// Ends a session at a logout though something set apart has not been credited.
    EndUncredited,
    /// Lets a superseded secret log out a session whose current one has been presented.
    SupersededEnds,
    /// Lets a superseded secret log out a session whose current ones nobody has presented, though it was superseded by one that was.
    SupersededEndsLater,
    /// Does nothing at a logout with a superseded secret.
    SupersededNeverEnds,
    /// Takes a retiring secret that has run out meanwhile for an unknown one at a login or logout.
    RetiredForgotten,
    /// Lets a writer that loaded the session before it was ended put it back.
    Revive,
    /// Leaves the number out of a deleted user's tombstone.
    DeletionForgetsNumber,
    /// Leaves the places out of a deleted user's tombstone.
    DeletionForgetsPlaces,
    /// Revokes first, and writes the tombstone last, with the number and the places that are there by then.
    TombstoneLater,
    /// Revokes nothing if the user has no record.
    RevokeNobody,
    /// Marks what gives way to a limit by what was looked up, and ends it whatever has become of it.
    RefuseMarks,
    /// Looks nothing up at a limit that refuses.
    RefuseBlindly,
    /// Lets a job of the app's own write though the user has been deleted since it looked.
    JobIgnoresDeletion,
    /// Leaves the count of deletions as it is.
    DeletionUncounted,
    /// Discards in the session alone.
    DiscardInSession,
}

/// Tells which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rules {
    broken: Option<Break>,
}

impl Rules {
    /// Returns all rules but one.
    pub(crate) fn without(rule: Break) -> Self {
        Self { broken: Some(rule) }
    }

    /// Returns `true` if this run leaves the rule out.
    pub(crate) fn lack(self, rule: Break) -> bool {
        self.broken == Some(rule)
    }
}
