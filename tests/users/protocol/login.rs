//! A login: it looks at the user's record, opens the session, confirms it in the user's record, and only then sends the id.

use std::rc::Rc;

use super::actor::Steps;
use super::logout::Logout;
use super::rules::{Break, Rules};
use super::session::Session;
use super::user::{Confirmation, Limit, Looked, User, Verdict};
use super::world::{Event, Id, Key, MINUTE, Moment, Name, Source, TEN_MINUTES, World, later};

/// How many places past their time a login looks after.
const TENDED: usize = 8;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Login {
    /// The name of the secret that it issues.
    issues: u8,
    user: Name,
    from: Source,
    limit: Limit,
    /// The key of the record that it begins if it has to.
    key: Key,
    at: At,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum At {
    Look,
    Tend(Rc<Tending>),
    Open(Rc<Tending>),
    Confirm(Rc<Opened>),
    LookAgain(Rc<Opened>, u8),
    LookUp(Rc<Opened>, Vec<Key>),
    /// Only where a rule is left out.
    Displace(Rc<Opened>, Key),
    /// Whether it is for want of room.
    Undo(Rc<Opened>, bool),
    Drop(Rc<Opened>, u8, Vec<Key>),
    End(Rc<Opened>, Vec<Key>, Vec<Key>),
    Strike(Rc<Opened>, Vec<Key>),
    Former(Id, Logout),
    Answer(Id),
    Done(Id),
    Refused,
    Full,
}

/// What a login knows before it opens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Tending {
    id: Option<Id>,
    looked: Looked,
    past: Vec<Key>,
    gone: Vec<Key>,
    alive: Vec<(Key, Moment)>,
}

/// What a login has opened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Opened {
    key: Key,
    session: Rc<Session>,
    /// What it knew before.
    began: Tending,
    /// Another user's session that the request came with.
    former: Option<Id>,
}

impl Login {
    pub(crate) fn new(issues: u8, from: Source) -> Self {
        Self {
            issues,
            user: 0,
            from,
            limit: Limit::None,
            key: issues.into(),
            at: At::Look,
        }
    }

    pub(crate) fn under(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    pub(crate) fn of(self, user: Name) -> Self {
        Self { user, ..self }
    }

    /// Returns the id that it has sent.
    pub(crate) fn sent(&self) -> Option<Id> {
        match self.at {
            At::Done(id) | At::Answer(id) => Some(id),
            _ => None,
        }
    }

    pub(crate) fn user(&self) -> Name {
        self.user
    }

    pub(crate) fn issues(&self) -> u8 {
        self.issues
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.at == At::Refused
    }

    pub(crate) fn is_full(&self) -> bool {
        self.at == At::Full
    }

    /// Returns `true` if it has not begun, or is over.
    pub(crate) fn idle(&self) -> bool {
        matches!(self.at, At::Look | At::Done(_) | At::Refused | At::Full)
    }

    pub(crate) fn step(&self, world: &World, rules: Rules) -> Steps<Self> {
        match &self.at {
            At::Look => self.look(world, rules),
            At::Tend(tending) => self.tend(tending, world, rules),
            At::Open(tending) => self.open(tending, world, rules),
            At::Confirm(opened) => self.confirm(opened, world, rules),
            At::LookAgain(opened, struck) => self.look_again(opened, *struck, world),
            At::Displace(opened, key) => self.displace(opened, *key, world),
            At::LookUp(opened, keys) => self.look_up(opened, keys, world, rules),
            At::Undo(opened, full) => self.undo(opened, *full, world, rules),
            At::Drop(opened, upto, leave) => self.drop_credited(opened, *upto, leave, world),
            At::End(opened, leave, ended) => self.end(opened, leave, ended, world),
            At::Strike(opened, ended) => self.strike(opened, ended, world),
            At::Former(id, logout) => self.former(*id, logout, world, rules),
            At::Answer(id) => self.answer(*id, world),
            At::Done(_) | At::Refused | At::Full => Vec::new(),
        }
    }

    fn goes_on(&self, at: At, world: World, what: &'static str) -> Steps<Self> {
        vec![(Self { at, ..self.clone() }, world, what)]
    }

    fn look(&self, world: &World, rules: Rules) -> Steps<Self> {
        let nobody = User::default();
        let user = world.user(self.user).unwrap_or(&nobody);
        let id = world.presented(self.from).filter(|id| {
            world
                .session(id.key)
                .is_some_and(|session| session.knows(id.secret, world.now, rules))
        });
        let id = id.filter(|id| !user.place(id.key).is_some_and(|place| place.leaving));
        let looked = Looked {
            number: user.number,
            struck: user.struck,
        };
        let past = user
            .staying()
            .filter(|place| place.certain <= world.now)
            .take(TENDED)
            .map(|place| place.key)
            .collect::<Vec<_>>();
        let idle = past.is_empty();
        let tending = Rc::new(Tending {
            id,
            looked,
            past,
            gone: Vec::new(),
            alive: Vec::new(),
        });
        let at = if idle {
            At::Open(tending)
        } else {
            At::Tend(tending)
        };
        self.goes_on(
            at,
            world.clone().noting(Event::Looked(self.issues)),
            "looks at the user's record",
        )
    }

    /// Ends what lapsed more than ten minutes ago, and learns how long the others live.
    fn tend(&self, tending: &Tending, world: &World, rules: Rules) -> Steps<Self> {
        let mut next = tending.clone();
        let Some(key) = next.past.pop() else {
            return self.goes_on(
                At::Open(Rc::new(next)),
                world.clone(),
                "has tended the list",
            );
        };
        let lapses = world
            .session(key)
            .filter(|session| !session.ended)
            .map_or(0, |session| session.lapses);
        if later(lapses, TEN_MINUTES) > world.now {
            next.alive.push((key, lapses));
            return self.goes_on(
                At::Tend(Rc::new(next)),
                world.clone(),
                "finds a session alive",
            );
        }
        next.gone.push(key);
        let after = if rules.lack(Break::StrikeLapsed) {
            world.clone()
        } else {
            world.end(key, self.user)
        };
        self.goes_on(
            At::Tend(Rc::new(next)),
            after,
            "ends a session that has lapsed",
        )
    }

    fn open(&self, began: &Tending, world: &World, rules: Rules) -> Steps<Self> {
        let there = began.id.and_then(|id| Some((id, world.session(id.key)?)));
        let Some((id, there)) = there else {
            return self.open_new(began.clone(), None, world);
        };
        let mut session = there.clone();
        if !session.open(id.secret, self.issues, self.user, world.now, rules) {
            let others = there.user.is_some_and(|other| other != self.user);
            let former = others && there.opens(id.secret, world.now, rules);
            return self.open_new(began.clone(), former.then_some(id), world);
        }
        let after = world.put(id.key, session.clone());
        let opened = Opened {
            key: id.key,
            session: Rc::new(session),
            began: began.clone(),
            former: None,
        };
        self.goes_on(At::Confirm(Rc::new(opened)), after, "opens the session")
    }

    /// Begins a new record.
    fn open_new(&self, began: Tending, former: Option<Id>, world: &World) -> Steps<Self> {
        let session = Session::of(
            self.user,
            self.issues,
            world.now,
            later(world.now, world.ttl),
        );
        let after = world.put(self.key, session.clone());
        let opened = Opened {
            key: self.key,
            session: Rc::new(session),
            began,
            former,
        };
        self.goes_on(At::Confirm(Rc::new(opened)), after, "opens a new record")
    }

    /// Goes on in a new record, since the session that it opened is gone or has to go.
    fn elsewhere(&self, opened: &Opened, world: &World) -> Steps<Self> {
        self.open_new(opened.began.clone(), None, world)
    }

    /// Looks at the session again, since somebody has been struck off.
    fn look_again(&self, opened: &Opened, struck: u8, world: &World) -> Steps<Self> {
        if world
            .session(opened.key)
            .is_none_or(|session| session.ended)
        {
            return self.elsewhere(opened, world);
        }
        let mut next = opened.clone();
        next.began.looked.struck = struck;
        self.goes_on(
            At::Confirm(Rc::new(next)),
            world.clone(),
            "finds the session alive",
        )
    }

    /// Asks the user's record for a place.
    fn confirm(&self, opened: &Rc<Opened>, world: &World, rules: Rules) -> Steps<Self> {
        if rules.lack(Break::Confirm) {
            return self.sends(opened, world);
        }
        let Tending {
            looked,
            ref gone,
            ref alive,
            ..
        } = opened.began;
        let (key, new) = (opened.key, opened.key == self.key);
        let asked = Confirmation {
            key,
            new,
            opened: &opened.session,
            looked,
            limit: self.limit,
            gone,
            alive,
        };
        let nobody = User::default();
        let user = world.user(self.user).unwrap_or(&nobody);
        let verdict = user.confirm(&asked, rules);
        self.heed(verdict, opened, world, rules)
    }

    fn heed(
        &self,
        verdict: Verdict,
        opened: &Rc<Opened>,
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        match verdict {
            Verdict::Listed(user, leave) => {
                let upto = user.place(opened.key).map_or(0, |place| place.credited);
                self.goes_on(
                    At::Drop(Rc::clone(opened), upto, leave),
                    world.put_user(self.user, user),
                    "is confirmed",
                )
            }
            Verdict::Refused => self.goes_on(
                At::Undo(Rc::clone(opened), false),
                world.clone(),
                "is refused",
            ),
            Verdict::Elsewhere => self.elsewhere(opened, world),
            Verdict::LookAgain(struck) => self.goes_on(
                At::LookAgain(Rc::clone(opened), struck),
                world.clone(),
                "has to look at the session again",
            ),
            Verdict::Full(_) if rules.lack(Break::RefuseBlindly) => self.goes_on(
                At::Undo(Rc::clone(opened), true),
                world.clone(),
                "is refused",
            ),
            Verdict::Full(keys) => self.goes_on(
                At::LookUp(Rc::clone(opened), keys),
                world.clone(),
                "finds no room",
            ),
        }
    }

    /// Looks up those that hold the places, and ends one that nobody has used within a minute.
    fn look_up(
        &self,
        opened: &Rc<Opened>,
        keys: &[Key],
        world: &World,
        rules: Rules,
    ) -> Steps<Self> {
        let mut keys = keys.to_vec();
        let Some(key) = keys.pop() else {
            return self.goes_on(
                At::Undo(Rc::clone(opened), true),
                world.clone(),
                "finds that all are in use",
            );
        };
        let idle = world
            .session(key)
            .filter(|session| !session.ended)
            .is_none_or(|session| session.is_unused(MINUTE, world.now));
        if !idle {
            return self.goes_on(
                At::LookUp(Rc::clone(opened), keys),
                world.clone(),
                "finds a session in use",
            );
        }
        let mut next = Opened::clone(opened);
        next.began.gone.push(key);
        if rules.lack(Break::RefuseMarks) {
            return self.goes_on(
                At::Displace(Rc::new(next), key),
                world.clone(),
                "finds a session that has to go",
            );
        }
        self.goes_on(
            At::Confirm(Rc::new(next)),
            world.end(key, self.user),
            "ends a session that nobody has used",
        )
    }

    /// Ends a session by what was looked up, whatever has become of it.
    fn displace(&self, opened: &Rc<Opened>, key: Key, world: &World) -> Steps<Self> {
        let in_use = world
            .session(key)
            .is_some_and(|session| !session.ended && session.in_use());
        let after = world.end(key, self.user);
        let after = if in_use {
            after.noting(Event::Displaced(key))
        } else {
            after
        };
        self.goes_on(At::Confirm(Rc::clone(opened)), after, "ends the session")
    }

    fn undo(&self, opened: &Rc<Opened>, full: bool, world: &World, rules: Rules) -> Steps<Self> {
        let at = if full { At::Full } else { At::Refused };
        let there = world.session(opened.key).filter(|session| !session.ended);
        let Some(there) =
            there.filter(|there| !rules.lack(Break::UndoOnce) || *there == &*opened.session)
        else {
            return self.goes_on(at, world.clone(), "has nothing to undo");
        };
        let mut session = there.clone();
        session.undo(self.issues, world.now, rules);
        self.goes_on(at, world.put(opened.key, session), "undoes what it opened")
    }

    fn drop_credited(
        &self,
        opened: &Rc<Opened>,
        upto: u8,
        leave: &[Key],
        world: &World,
    ) -> Steps<Self> {
        let at = At::End(Rc::clone(opened), leave.to_vec(), Vec::new());
        let Some(there) = world.session(opened.key).filter(|session| !session.ended) else {
            return self.goes_on(at, world.clone(), "has nothing to drop");
        };
        let mut session = there.clone();
        session.drop_credited(upto);
        self.goes_on(at, world.put(opened.key, session), "drops what is credited")
    }

    /// Ends those who have to leave.
    fn end(&self, opened: &Rc<Opened>, leave: &[Key], ended: &[Key], world: &World) -> Steps<Self> {
        let (mut leave, mut ended) = (leave.to_vec(), ended.to_vec());
        let Some(key) = leave.pop() else {
            return if ended.is_empty() {
                self.sends(opened, world)
            } else {
                self.goes_on(
                    At::Strike(Rc::clone(opened), ended),
                    world.clone(),
                    "has ended all",
                )
            };
        };
        ended.push(key);
        self.goes_on(
            At::End(Rc::clone(opened), leave, ended),
            world.end(key, self.user),
            "ends a session that has to leave",
        )
    }

    fn strike(&self, opened: &Rc<Opened>, ended: &[Key], world: &World) -> Steps<Self> {
        self.sends(opened, &world.strike_off(self.user, ended))
    }

    fn sends(&self, opened: &Opened, world: &World) -> Steps<Self> {
        let id = Id {
            key: opened.key,
            secret: self.issues,
        };
        let at = opened.former.map_or(At::Answer(id), |former| {
            At::Former(id, Logout::new(Source::Sent(former)))
        });
        self.goes_on(at, world.clone(), "sends its id")
    }

    /// Logs the user out as whom the request came.
    fn former(&self, id: Id, logout: &Logout, world: &World, rules: Rules) -> Steps<Self> {
        if logout.idle() && logout.is_over() {
            return self.goes_on(
                At::Answer(id),
                world.clone(),
                "has logged the former user out",
            );
        }
        let steps = logout.step(world, rules).into_iter();
        steps
            .map(|(logout, world, what)| {
                (
                    Self {
                        at: At::Former(id, logout),
                        ..self.clone()
                    },
                    world,
                    what,
                )
            })
            .collect()
    }

    fn answer(&self, id: Id, world: &World) -> Steps<Self> {
        let steps = world.answered(self.from, id).into_iter();
        steps
            .map(|(world, what)| {
                (
                    Self {
                        at: At::Done(id),
                        ..self.clone()
                    },
                    world,
                    what,
                )
            })
            .collect()
    }
}
