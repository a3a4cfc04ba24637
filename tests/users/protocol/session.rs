//! A session's record, and the plans on it: presenting, rotating, opening, undoing, setting apart, ending.
//!
//! A swap that finds another version plans again on what it finds. So a plan has the same effect as one step on what is there, and the
//! model takes it as one step.

use std::rc::Rc;

use super::rules::{Break, Rules};
use super::world::{FIVE_MINUTES, HOUR, MINUTE, Moment, Name, later};

/// Counts the current secrets that may wait to be presented.
const UNPRESENTED: usize = 4;

/// Says what a secret is good for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Standing {
    /// Opens the session.
    Current,
    /// Opens it until a minute after one has been presented that was issued under the number `by` or a later one.
    Retiring { by: u8, since: Option<Moment> },
    /// Opens nothing. `since` is when one that took its place was first presented.
    Superseded { since: Option<Moment> },
}

/// A secret of a session, as its record knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Secret {
    pub(crate) name: u8,
    /// Counts up within the session.
    pub(crate) number: u8,
    pub(crate) standing: Standing,
    pub(crate) issued: Moment,
    pub(crate) presented: Option<Moment>,
}

/// What an undo gives back.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(crate) struct Before {
    user: Option<Name>,
    secrets: Vec<Secret>,
}

/// Units set apart, under the number that they have within the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Brought {
    pub(crate) number: u8,
    pub(crate) units: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Session {
    pub(crate) ended: bool,
    pub(crate) user: Option<Name>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) before: Option<Rc<Before>>,
    /// A field that follows the user, as a guest has it.
    pub(crate) units: u8,
    pub(crate) brought: Vec<Brought>,
    /// The last number under which anything was set apart.
    pub(crate) count: u8,
    /// A field that stays with the browser.
    pub(crate) browser: u8,
    pub(crate) lapses: Moment,
    numbers: u8,
}

impl Session {
    /// Returns a guest's session with three units, under secret 0, that has been presented.
    pub(crate) fn guest(lapses: Moment) -> Self {
        let mut session = Self {
            units: 3,
            lapses,
            ..Self::default()
        };
        session.issue(0, 0);
        session.in_hand(0)
    }

    /// Returns a user's session that begins with a login.
    pub(crate) fn of(user: Name, secret: u8, now: Moment, lapses: Moment) -> Self {
        let mut session = Self {
            user: Some(user),
            lapses,
            ..Self::default()
        };
        session.issue(secret, now);
        session
    }

    /// Returns the session as it is once its first secret has been presented.
    pub(crate) fn in_hand(mut self, now: Moment) -> Self {
        self.secrets[0].presented = Some(now);
        self
    }

    /// Returns what is left of a session that has ended.
    pub(crate) fn tombstone() -> Self {
        Self {
            ended: true,
            ..Self::default()
        }
    }

    pub(crate) fn secret(&self, name: u8) -> Option<&Secret> {
        self.secrets.iter().find(|secret| secret.name == name)
    }

    /// Returns `true` if whoever presents this secret is served this session.
    pub(crate) fn opens(&self, name: u8, now: Moment, rules: Rules) -> bool {
        !self.ended
            && now < self.lapses
            && self
                .secret(name)
                .is_some_and(|secret| secret.opens(now, rules))
    }

    /// Returns `true` if anybody has presented a current secret.
    pub(crate) fn in_use(&self) -> bool {
        self.secrets
            .iter()
            .any(|secret| secret.standing == Standing::Current && secret.presented.is_some())
    }

    /// Returns `true` if nobody has presented a current secret, and the last was issued that long ago.
    pub(crate) fn is_unused(&self, since: Moment, now: Moment) -> bool {
        !self.in_use()
            && self
                .secrets
                .iter()
                .all(|secret| later(secret.issued, since) <= now)
    }

    /// Returns `true` if a login by this secret goes on in this record: it opens it, or was superseded in it lately.
    pub(crate) fn knows(&self, name: u8, now: Moment, rules: Rules) -> bool {
        self.opens(name, now, rules) || self.straggler(name, FIVE_MINUTES, now)
    }

    /// Returns `true` if the secret is superseded, and no longer than that since what superseded it was first presented.
    pub(crate) fn straggler(&self, name: u8, at_most: Moment, now: Moment) -> bool {
        !self.ended
            && self
                .secret(name)
                .is_some_and(|secret| match secret.standing {
                    Standing::Superseded { since } => {
                        since.is_none_or(|since| now < later(since, at_most))
                    }
                    _ => false,
                })
    }

    /// Returns `true` if nobody has presented a secret that took the place of this superseded one.
    pub(crate) fn unreplaced(&self, name: u8) -> bool {
        self.secret(name)
            .is_some_and(|secret| secret.standing == Standing::Superseded { since: None })
    }

    /// Notes that a secret has been presented, which begins the last minutes of those whose place it takes.
    pub(crate) fn present(&mut self, name: u8, now: Moment, rules: Rules) {
        let Some(secret) = self.secrets.iter_mut().find(|secret| secret.name == name) else {
            return;
        };
        if secret.presented.is_some() || matches!(secret.standing, Standing::Superseded { .. }) {
            return;
        }
        secret.presented = Some(now);
        let number = secret.number;
        if self.user.is_some() {
            self.before = None;
        }
        for other in &mut self.secrets {
            other.replaced(number, now, rules);
        }
    }

    /// Adds a secret and retires the current ones that have been presented. Returns `false` if it issued nothing.
    pub(crate) fn rotate(&mut self, own: u8, issued: u8, now: Moment, rules: Rules) -> bool {
        let may = self.opens(own, now, rules)
            || (rules.lack(Break::SupersededIssues) && self.straggler(own, FIVE_MINUTES, now));
        if !may {
            return false;
        }
        self.secrets.retain(|secret| !secret.fallen(now));
        if self.secrets.iter().filter(|secret| secret.waits()).count() >= UNPRESENTED {
            if !rules.lack(Break::FallByNumber) {
                return false;
            }
            let oldest = self.secrets.iter().position(|secret| secret.waits());
            oldest.map(|oldest| self.secrets.remove(oldest));
        }
        if self
            .secret(own)
            .is_some_and(|secret| secret.standing == Standing::Current)
        {
            self.retire(now, rules);
        }
        self.issue(issued, now);
        true
    }

    /// Opens a login of the user in this record, or returns `false` if the login has to begin a new one.
    ///
    /// The session has known the secret when the login began; time may have passed.
    pub(crate) fn open(
        &mut self,
        own: u8,
        issued: u8,
        user: Name,
        now: Moment,
        rules: Rules,
    ) -> bool {
        let forgotten = rules.lack(Break::RetiredForgotten) && !self.knows(own, now, rules);
        if self.ended || self.user.is_some_and(|other| other != user) || forgotten {
            return false;
        }
        let Some(secret) = self.secret(own) else {
            return false;
        };
        if !matches!(secret.standing, Standing::Superseded { .. }) {
            self.present(own, now, rules);
            self.before = Some(Rc::new(Before {
                user: self.user,
                secrets: self.secrets.clone(),
            }));
            self.supersede(now, rules);
        } else if self.user.is_none() {
            return false;
        }
        self.user = Some(user);
        let units = std::mem::take(&mut self.units);
        self.set_apart(units);
        self.issue(issued, now);
        true
    }

    /// Takes a login's secret away again. If nothing else opens the session, it is what it was before; a new one is ended.
    pub(crate) fn undo(&mut self, issued: u8, now: Moment, rules: Rules) {
        if !self.secret(issued).is_some_and(|secret| secret.waits()) {
            return;
        }
        let others = self
            .secrets
            .iter()
            .any(|other| other.name != issued && other.opens(now, rules));
        if others && rules.lack(Break::UndoOnlyCurrent) {
            return;
        }
        self.secrets.retain(|secret| secret.name != issued);
        if others {
            return;
        }
        match self.before.take() {
            Some(before) => self.give_back(&before),
            None => *self = Self::tombstone(),
        }
    }

    /// Sets units apart under the next number.
    pub(crate) fn set_apart(&mut self, units: u8) {
        if units > 0 {
            self.count += 1;
            self.brought.push(Brought {
                number: self.count,
                units,
            });
        }
    }

    /// Drops what has been credited.
    pub(crate) fn drop_credited(&mut self, upto: u8) {
        self.brought.retain(|brought| brought.number > upto);
    }

    /// Returns `true` if something waits to be credited.
    pub(crate) fn brings(&self, credited: u8) -> bool {
        self.brought.iter().any(|brought| brought.number > credited)
    }

    fn give_back(&mut self, before: &Before) {
        self.user = before.user;
        self.secrets.clone_from(&before.secrets);
        if before.user.is_none() {
            self.units += self
                .brought
                .drain(..)
                .map(|brought| brought.units)
                .sum::<u8>();
        }
    }

    fn issue(&mut self, name: u8, now: Moment) {
        self.numbers += 1;
        let secret = Secret {
            name,
            number: self.numbers,
            standing: Standing::Current,
            issued: now,
            presented: None,
        };
        self.secrets.push(secret);
    }

    fn retire(&mut self, now: Moment, rules: Rules) {
        let (by, since) = (
            self.numbers + 1,
            rules.lack(Break::MinuteAtRotation).then_some(now),
        );
        for secret in &mut self.secrets {
            if secret.standing == Standing::Current
                && (secret.presented.is_some() || rules.lack(Break::RetireUnpresented))
            {
                secret.standing = Standing::Retiring { by, since };
            }
        }
    }

    fn supersede(&mut self, now: Moment, rules: Rules) {
        if rules.lack(Break::LoginKeeps) {
            return;
        }
        let forgotten = rules.lack(Break::ForgetByTime).then_some(now);
        for secret in &mut self.secrets {
            let since = match secret.standing {
                Standing::Current => forgotten,
                Standing::Retiring { since, .. } | Standing::Superseded { since } => {
                    since.or(forgotten)
                }
            };
            secret.standing = Standing::Superseded { since };
        }
    }
}

impl Secret {
    fn opens(self, now: Moment, rules: Rules) -> bool {
        match self.standing {
            Standing::Current => !(rules.lack(Break::FallByTime) && self.fallen(now)),
            Standing::Retiring { since, .. } => {
                since.is_none_or(|since| now < later(since, MINUTE))
            }
            Standing::Superseded { .. } => false,
        }
    }

    fn waits(self) -> bool {
        self.standing == Standing::Current && self.presented.is_none()
    }

    fn fallen(self, now: Moment) -> bool {
        self.waits() && now >= later(self.issued, HOUR)
    }

    /// Notes that the secret with this number has been presented for the first time.
    fn replaced(&mut self, number: u8, now: Moment, rules: Rules) {
        match &mut self.standing {
            Standing::Retiring { by, since } => {
                let from = if rules.lack(Break::MinuteByAge) {
                    self.number + 1
                } else {
                    *by
                };
                if number >= from {
                    since.get_or_insert(now);
                }
            }
            Standing::Superseded { since } if rules.lack(Break::MinuteOfLast) => *since = Some(now),
            Standing::Superseded { since } => {
                since.get_or_insert(now);
            }
            Standing::Current => {}
        }
    }
}
