//! Revoking: all of a user's sessions, all others, one, or the user.

use super::actor::Steps;
use super::rules::{Break, Rules};
use super::world::{Event, Key, Name, World};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Revoke {
    user: Name,
    what: What,
    /// The number that it has drawn.
    number: u8,
    at: At,
}

/// Says what is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum What {
    All,
    Others(Key),
    One(Key),
    User,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum At {
    Mark,
    End(Vec<Key>, Vec<Key>),
    Strike(Vec<Key>),
    Bury,
    Over,
}

impl Revoke {
    pub(crate) fn new(what: What) -> Self {
        Self {
            user: 0,
            what,
            number: 0,
            at: At::Mark,
        }
    }

    pub(crate) fn idle(&self) -> bool {
        matches!(self.at, At::Mark | At::Over)
    }

    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match &self.at {
            At::Mark => self.mark(world, rules),
            At::End(keys, ended) => self.end(keys, ended, world, rules),
            At::Strike(keys) => self.strike(keys, world, rules),
            At::Bury => self.bury(world, rules),
            At::Over => Vec::new(),
        }
    }

    fn goes_on(&self, at: At, world: World, what: &'static str) -> Steps<Self> {
        vec![(Self { at, ..self.clone() }, world, what)]
    }

    fn mark(&self, world: &World, rules: Rules) -> Steps<Self> {
        let keep = match self.what {
            What::One(key) => return self.begins_with(key, world, rules),
            What::Others(key) => Some(key),
            What::All | What::User => None,
        };
        if world.user(self.user).is_none() && rules.lack(Break::RevokeNobody) {
            return self.goes_on(
                At::Over,
                world
                    .clone()
                    .noting(Event::Cut(0, None))
                    .noting(Event::Revoked(0)),
                "finds no user",
            );
        }
        let mut after = world.clone();
        let number = after.draw();
        let mut user = world.user(self.user).cloned().unwrap_or_default();
        let leaving = user.revoke(keep, number);
        if self.what == What::User && !rules.lack(Break::TombstoneLater) {
            user.delete(rules);
        }
        let after = after
            .put_user(self.user, user)
            .noting(Event::Cut(number, keep));
        let drawn = Self {
            number,
            ..self.clone()
        };
        drawn.goes_on(
            At::End(leaving, Vec::new()),
            after,
            "marks the places and renews the number",
        )
    }

    fn begins_with(&self, key: Key, world: &World, rules: Rules) -> Steps<Self> {
        if world
            .user(self.user)
            .is_none_or(|user| user.place(key).is_none())
        {
            return self.goes_on(At::Over, world.clone(), "finds no such session");
        }
        let at = if rules.lack(Break::StrikeFirst) {
            At::Strike(vec![key])
        } else {
            At::End(vec![key], Vec::new())
        };
        self.goes_on(at, world.clone(), "finds the session")
    }

    fn end(&self, keys: &[Key], ended: &[Key], world: &World, rules: Rules) -> Steps<Self> {
        let (mut keys, mut ended) = (keys.to_vec(), ended.to_vec());
        if let Some(key) = keys.pop() {
            ended.push(key);
            return self.goes_on(
                At::End(keys, ended),
                world.end(key, self.user),
                "ends a session",
            );
        }
        if rules.lack(Break::StrikeFirst) && matches!(self.what, What::One(_)) {
            return self.goes_on(At::Over, world.clone(), "is done");
        }
        self.goes_on(At::Strike(ended), world.clone(), "has ended all")
    }

    fn strike(&self, keys: &[Key], world: &World, rules: Rules) -> Steps<Self> {
        let after = world.strike_off(self.user, keys);
        let at = match self.what {
            What::One(key) if rules.lack(Break::StrikeFirst) => At::End(vec![key], Vec::new()),
            What::User if rules.lack(Break::TombstoneLater) => At::Bury,
            What::One(_) => At::Over,
            _ => {
                return self.goes_on(
                    At::Over,
                    after.noting(Event::Revoked(self.number)),
                    "strikes them off and returns",
                );
            }
        };
        self.goes_on(at, after, "strikes them off")
    }

    fn bury(&self, world: &World, rules: Rules) -> Steps<Self> {
        let Some(mut user) = world.user(self.user).cloned() else {
            return Vec::new();
        };
        user.delete(rules);
        let after = world
            .put_user(self.user, user)
            .noting(Event::Cut(self.number, None))
            .noting(Event::Revoked(self.number));
        self.goes_on(At::Over, after, "writes the tombstone and returns")
    }
}
