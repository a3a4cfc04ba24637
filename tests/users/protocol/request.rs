//! A request of a guest or a user: it loads the session, and writes at its end.

use std::rc::Rc;

use super::actor::Steps;
use super::rules::{Break, Rules};
use super::session::{Session, Standing};
use super::world::{Event, FOREVER, Id, MINUTE, Name, Source, World, later};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    /// The name of the secret that it issues if it rotates.
    issues: u8,
    from: Source,
    does: Does,
    at: At,
}

/// What a request's handler does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Does {
    Read,
    /// Adds a unit to the field that follows, and one to what stays with the browser.
    Write,
    Rotate,
    /// Drops what is set apart without crediting it.
    Discard,
}

/// What a request is served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum View {
    Guest,
    User(Name),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum At {
    Unsent,
    Loaded(Id, View, Option<Rc<Session>>),
    /// Its session is swapped; the user's record is next.
    Credit(Id, Name, Rc<Session>, bool),
    Drop(Id, u8, bool, Told),
    Answer(Id, Told),
    Over(Told),
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Told {
    /// Units that are said to be saved.
    pub(crate) saved: u8,
    /// Units that are said to be discarded.
    pub(crate) discarded: u8,
    /// The secret that it issued.
    pub(crate) issued: Option<Id>,
    /// Whether it was served a session.
    pub(crate) served: bool,
}

impl Request {
    pub(crate) fn new(issues: u8, from: Source, does: Does) -> Self {
        Self {
            issues,
            from,
            does,
            at: At::Unsent,
        }
    }

    pub(crate) fn told(&self) -> Told {
        match self.at {
            At::Answer(_, told) | At::Over(told) | At::Drop(_, _, _, told) => told,
            _ => Told::default(),
        }
    }

    /// Returns the id that it has put into the record, be it sent or not.
    pub(crate) fn issued(&self) -> Option<Id> {
        self.told().issued
    }

    pub(crate) fn from(&self) -> Source {
        self.from
    }

    pub(crate) fn idle(&self) -> bool {
        matches!(self.at, At::Unsent | At::Over(_))
    }

    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match &self.at {
            At::Unsent => self.load(world, rules),
            At::Loaded(id, View::Guest, seen) => {
                self.commit_guest(*id, seen.as_ref(), world, rules)
            }
            At::Loaded(id, View::User(user), seen) => {
                self.commit_user(*id, *user, seen.as_ref(), world, rules)
            }
            At::Credit(id, user, session, issued) => {
                self.credit(*id, *user, session, *issued, world, rules)
            }
            At::Drop(id, upto, issued, told) => {
                self.drop_credited(*id, *upto, *issued, *told, world)
            }
            At::Answer(id, told) => self.answer(*id, *told, world),
            At::Over(_) => Vec::new(),
        }
    }

    fn goes_on(&self, at: At, world: World, what: &'static str) -> Steps<Self> {
        vec![(Self { at, ..self.clone() }, world, what)]
    }

    fn load(&self, world: &World, rules: Rules) -> Steps<Self> {
        let found = world
            .presented(self.from)
            .and_then(|id| Some((id, world.session(id.key)?)));
        let served = found.filter(|(id, session)| session.opens(id.secret, world.now, rules));
        let admitted = served.filter(|(id, session)| {
            session.user.is_none_or(|user| {
                world
                    .user(user)
                    .is_some_and(|user| user.admits(id.key).is_some())
            })
        });
        let Some((id, session)) = admitted else {
            return self.goes_on(
                At::Over(Told::default()),
                world.clone(),
                "is served nothing",
            );
        };
        let view = session.user.map_or(View::Guest, View::User);
        let seen = rules.lack(Break::Revive).then(|| Rc::new(session.clone()));
        self.goes_on(
            At::Loaded(id, view, seen),
            world.clone(),
            "loads the session",
        )
    }

    /// Returns the session as it is to be written on.
    fn there(seen: Option<&Rc<Session>>, id: Id, world: &World) -> Option<Session> {
        let there = world.session(id.key)?;
        if there.ended {
            seen.map(|seen| Session::clone(seen))
        } else {
            Some(there.clone())
        }
    }

    fn commit_guest(
        &self,
        id: Id,
        seen: Option<&Rc<Session>>,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let Some(mut session) = Self::there(seen, id, world) else {
            return self.goes_on(
                At::Over(Told::default()),
                world.clone(),
                "finds the session ended",
            );
        };
        let mut told = Told {
            served: true,
            ..Told::default()
        };
        let wrote = self.does == Does::Write;
        if session.user.is_some() && !may_still_write(&session, id.secret, world, rules) {
            return self.goes_on(At::Over(told), world.clone(), "writes nothing any more");
        }
        if session.user.is_none() {
            session.present(id.secret, world.now, rules);
        }
        let issued =
            self.does == Does::Rotate && session.rotate(id.secret, self.issues, world.now, rules);
        if wrote && session.user.is_some() {
            session.set_apart(1);
        } else if wrote {
            session.units += 1;
        }
        session.browser += u8::from(wrote);
        told.saved = u8::from(wrote);
        let late = wrote
            && session.user.is_some()
            && world
                .taken
                .is_some_and(|taken| world.now >= later(taken, MINUTE));
        let after = self.put(id, session, world);
        self.ends(
            id,
            issued,
            told,
            if late {
                after.noting(Event::Late(id.key))
            } else {
                after
            },
        )
    }

    fn commit_user(
        &self,
        id: Id,
        user: Name,
        seen: Option<&Rc<Session>>,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let there = Self::there(seen, id, world).filter(|session| session.user == Some(user));
        let Some(mut session) = there else {
            return self.goes_on(
                At::Over(Told::default()),
                world.clone(),
                "finds the session ended",
            );
        };
        let presents = session
            .secret(id.secret)
            .is_some_and(|secret| secret.standing == Standing::Current);
        session.present(id.secret, world.now, rules);
        let issued =
            self.does == Does::Rotate && session.rotate(id.secret, self.issues, world.now, rules);
        session.browser += u8::from(self.does == Does::Write);
        let discarded = if rules.lack(Break::DiscardInSession) && self.does == Does::Discard {
            session.brought.drain(..).map(|brought| brought.units).sum()
        } else {
            0
        };
        let busy = self.does == Does::Write || !session.brought.is_empty();
        let mut after = self.put(id, session.clone(), world);
        if presents && id.key == 0 {
            after.taken.get_or_insert(world.now);
        }
        let told = Told {
            served: true,
            discarded,
            ..Told::default()
        };
        if !busy {
            return self.ends(id, issued, told, after);
        }
        self.goes_on(
            At::Credit(id, user, Rc::new(session), issued),
            after,
            "writes the session",
        )
    }

    fn put(&self, id: Id, mut session: Session, world: &World) -> World {
        if world.ttl != FOREVER && self.does != Does::Read {
            session.lapses = session.lapses.max(later(world.now, world.ttl));
        }
        world.put(id.key, session)
    }

    /// Writes what is the user's, and credits or discards what is set apart.
    fn credit(
        &self,
        id: Id,
        name: Name,
        session: &Session,
        issued: bool,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let Some(mut user) = world.user(name).cloned() else {
            return self.goes_on(At::Over(Told::default()), world.clone(), "finds no user");
        };
        let mut told = Told {
            served: true,
            ..Told::default()
        };
        if self.does == Does::Discard && !rules.lack(Break::DiscardInSession) {
            told.discarded = user.discard(id.key, session, rules);
        } else if user.credit(id.key, session, u8::from(self.does == Does::Write), rules) {
            told.saved = u8::from(self.does == Does::Write);
        } else {
            return self.ends(id, issued, told, world.clone());
        }
        self.goes_on(
            At::Drop(id, session.count, issued, told),
            world.put_user(name, user),
            "writes the user's record",
        )
    }

    fn drop_credited(
        &self,
        id: Id,
        upto: u8,
        issued: bool,
        told: Told,
        world: &World,
    ) -> Steps<Self> {
        let after = world
            .session(id.key)
            .filter(|session| !session.ended)
            .map(|there| {
                let mut session = there.clone();
                session.drop_credited(upto);
                world.put(id.key, session)
            });
        self.ends(id, issued, told, after.unwrap_or_else(|| world.clone()))
    }

    fn ends(&self, id: Id, issued: bool, told: Told, world: World) -> Steps<Self> {
        let new = Id {
            secret: self.issues,
            ..id
        };
        let told = Told {
            issued: issued.then_some(new),
            ..told
        };
        let at = if issued {
            At::Answer(new, told)
        } else {
            At::Over(told)
        };
        self.goes_on(at, world, "finishes")
    }

    fn answer(&self, id: Id, told: Told, world: &World) -> Steps<Self> {
        let steps = world.answered(self.from, id).into_iter();
        steps
            .map(|(world, what)| {
                (
                    Self {
                        at: At::Over(told),
                        ..self.clone()
                    },
                    world,
                    what,
                )
            })
            .collect()
    }
}

/// Returns `true` if a guest's request may write into what is a user's session by now.
fn may_still_write(session: &Session, secret: u8, world: &World, rules: Rules) -> bool {
    session.opens(secret, world.now, rules)
        || rules.lack(Break::NoLastMinute)
        || session.straggler(secret, MINUTE, world.now)
}
