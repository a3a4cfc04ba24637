//! A logout: it credits what the session brings, ends the session, then strikes it off.

use std::rc::Rc;

use super::actor::Steps;
use super::rules::{Break, Rules};
use super::session::{Session, Standing};
use super::world::{Event, Id, Key, Name, Source, World};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Logout {
    from: Source,
    at: At,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum At {
    Load,
    Credit {
        id: Id,
        user: Name,
        session: Rc<Session>,
        opened: bool,
    },
    End {
        id: Id,
        user: Name,
        upto: u8,
        opened: bool,
    },
    Strike(Key, Name),
    Over {
        ended: bool,
    },
}

impl Logout {
    pub(crate) fn new(from: Source) -> Self {
        Self { from, at: At::Load }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.at, At::Over { .. })
    }

    pub(crate) fn idle(&self) -> bool {
        matches!(self.at, At::Load | At::Over { .. })
    }

    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match &self.at {
            At::Load => self.load(world, rules),
            At::Credit {
                id,
                user,
                session,
                opened,
            } => self.credit(*id, *user, session, *opened, world, rules),
            At::End {
                id,
                user,
                upto,
                opened,
            } => self.end(*id, *user, *upto, *opened, world, rules),
            At::Strike(key, user) => self.strike(*key, *user, world),
            At::Over { .. } => Vec::new(),
        }
    }

    fn goes_on(&self, at: At, world: World, what: &'static str) -> Steps<Self> {
        vec![(Self { at, ..self.clone() }, world, what)]
    }

    fn load(&self, world: &World, rules: Rules) -> Steps<Self> {
        let found = world
            .presented(self.from)
            .and_then(|id| Some((id, world.session(id.key)?)));
        let Some((id, session, user)) =
            found.and_then(|(id, session)| Some((id, session, session.user?)))
        else {
            return self.goes_on(
                At::Over { ended: false },
                world.clone(),
                "finds nobody to log out",
            );
        };
        let opened = session.opens(id.secret, world.now, rules);
        let session = Rc::new(session.clone());
        self.goes_on(
            At::Credit {
                id,
                user,
                session,
                opened,
            },
            world.clone().noting(Event::LogoutBegan { opened }),
            "loads the session",
        )
    }

    fn credit(
        &self,
        id: Id,
        name: Name,
        session: &Session,
        opened: bool,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let end = |upto| At::End {
            id,
            user: name,
            upto,
            opened,
        };
        let mut user = world.user(name).cloned().unwrap_or_default();
        if !user.credit(id.key, session, 0, rules) {
            return self.goes_on(end(0), world.clone(), "finds no place");
        }
        self.goes_on(
            end(session.count),
            world.put_user(name, user),
            "credits what is set apart",
        )
    }

    fn end(
        &self,
        id: Id,
        user: Name,
        upto: u8,
        opened: bool,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let over = At::Over { ended: false };
        let Some(session) = world.session(id.key) else {
            return self.goes_on(over, world.clone(), "finds no session");
        };
        if session.ended {
            return self.goes_on(
                At::Strike(id.key, user),
                world.clone(),
                "finds the session ended",
            );
        }
        if session.user != Some(user) || !may_end(session, id.secret, opened, world, rules) {
            return self.goes_on(over, world.clone(), "may not end the session");
        }
        let brings = session.brings(upto);
        let admitted = world
            .user(user)
            .is_some_and(|user| user.admits(id.key).is_some());
        if brings && admitted && !rules.lack(Break::EndUncredited) {
            let session = Rc::new(session.clone());
            return self.goes_on(
                At::Credit {
                    id,
                    user,
                    session,
                    opened,
                },
                world.clone(),
                "finds more to credit",
            );
        }
        let usurps = matches!(
            session.secret(id.secret).map(|secret| secret.standing),
            Some(Standing::Superseded { since: Some(_) })
        );
        let after = world.end(id.key, user);
        let after = if usurps {
            after.noting(Event::Usurped(id.key))
        } else {
            after
        };
        let after = if brings && !admitted {
            after.noting(Event::Abandoned)
        } else {
            after
        };
        self.goes_on(At::Strike(id.key, user), after, "ends the session")
    }

    fn strike(&self, key: Key, user: Name, world: &World) -> Steps<Self> {
        let after = world.strike_off(user, &[key]).noting(Event::LoggedOut(key));
        self.goes_on(At::Over { ended: true }, after, "strikes the session off")
    }
}

/// Returns `true` if the secret that a logout came with may end the session.
fn may_end(session: &Session, secret: u8, opened: bool, world: &World, rules: Rules) -> bool {
    let superseded = matches!(
        session.secret(secret).map(|secret| secret.standing),
        Some(Standing::Superseded { .. })
    );
    if !superseded {
        return session.opens(secret, world.now, rules)
            || (opened && !rules.lack(Break::RetiredForgotten));
    }
    if rules.lack(Break::SupersededEnds) {
        return true;
    }
    if rules.lack(Break::SupersededEndsLater) {
        return !session.in_use();
    }
    session.unreplaced(secret) && !rules.lack(Break::SupersededNeverEnds)
}
