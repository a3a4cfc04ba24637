//! All that lies outside of those who act: the store, the time, what browsers hold, and what has happened.

use std::rc::Rc;

use super::session::Session;
use super::user::User;

/// A session's key in the store; a record never moves.
pub(crate) type Key = usize;
/// A user's.
pub(crate) type Name = usize;
/// A time, in ticks. Only the order of the spans below matters.
pub(crate) type Moment = u8;

/// How long a retiring secret opens, and a guest's request writes, after what takes its place was presented.
pub(crate) const MINUTE: Moment = 2;
/// How long a superseded secret is known after what superseded it was presented.
pub(crate) const FIVE_MINUTES: Moment = 4;
/// How long a lapsed session may still be written to by those who loaded it.
pub(crate) const TEN_MINUTES: Moment = 6;
/// How long an unpresented secret is kept when others rotate.
pub(crate) const HOUR: Moment = 20;
/// When nothing lapses.
pub(crate) const FOREVER: Moment = Moment::MAX;

/// Returns a time after another; `FOREVER` stays.
pub(crate) fn later(moment: Moment, by: Moment) -> Moment {
    moment.saturating_add(by)
}

/// What a cookie holds: a selector and a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Id {
    pub(crate) key: Key,
    pub(crate) secret: u8,
}

/// Says where a request gets its id from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    /// From a browser, which takes what the answer brings.
    Jar(usize),
    /// From the test, which has sent it already.
    Sent(Id),
    /// From nowhere.
    None,
}

/// What the checks want to know of the order in which things happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Event {
    /// A login had its first look.
    Looked(u8),
    /// The revocation that has drawn this number took the user's record away from those who were there or had looked, but for one session.
    Cut(u8, Option<Key>),
    /// That revocation returned.
    Revoked(u8),
    /// A logout found a user's session, which its secret opened, or had opened.
    LogoutBegan { opened: bool },
    /// A logout returned, having ended the session of this key.
    LoggedOut(Key),
    /// A logout ended a session whose login was not confirmed, with what was set apart there.
    Abandoned,
    /// A session was ended under a limit, though somebody had presented its id.
    Displaced(Key),
    /// A superseded secret ended a session though one that took its place had been presented.
    Usurped(Key),
    /// A job of this number has seen the user's record.
    JobLooked(u8),
    /// That job has written it.
    JobWrote(u8),
    /// A guest's request wrote into a user's session more than a minute after the user's secret was presented.
    Late(Key),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) sessions: Vec<Option<Rc<Session>>>,
    pub(crate) users: Vec<Option<Rc<User>>>,
    /// What browsers hold.
    pub(crate) jars: Vec<Option<Id>>,
    pub(crate) now: Moment,
    /// How long a session lives after it was last used.
    pub(crate) ttl: Moment,
    pub(crate) events: Vec<Event>,
    /// When a request first came under an id that a login in the guest's session had sent.
    pub(crate) taken: Option<Moment>,
    /// How many numbers of revocation have been drawn.
    drawn: u8,
}

impl World {
    /// Returns a world with a guest's session under key 0, whose id the first `jars` browsers hold.
    pub(crate) fn with_guest(keys: usize, users: usize, jars: usize, ttl: Moment) -> Self {
        let mut sessions = vec![None; keys];
        sessions[0] = Some(Rc::new(Session::guest(ttl)));
        let jars = vec![Some(Id { key: 0, secret: 0 }); jars];
        Self {
            sessions,
            users: vec![None; users],
            jars,
            now: 0,
            ttl,
            events: Vec::new(),
            taken: None,
            drawn: 0,
        }
    }

    pub(crate) fn session(&self, key: Key) -> Option<&Session> {
        self.sessions[key].as_deref()
    }

    pub(crate) fn user(&self, name: Name) -> Option<&User> {
        self.users[name].as_deref()
    }

    pub(crate) fn has(&self, event: Event) -> bool {
        self.events.contains(&event)
    }

    /// Returns the id that a request presents if it is sent now.
    pub(crate) fn presented(&self, source: Source) -> Option<Id> {
        match source {
            Source::Jar(jar) => self.jars[jar],
            Source::Sent(id) => Some(id),
            Source::None => None,
        }
    }

    /// Returns what may become of an answer that sets a cookie: it arrives, or it is lost.
    pub(crate) fn answered(&self, source: Source, id: Id) -> Vec<(Self, &'static str)> {
        let Source::Jar(jar) = source else {
            return vec![(self.clone(), "is sent")];
        };
        let mut there = self.clone();
        there.jars[jar] = Some(id);
        vec![(there, "arrives"), (self.clone(), "is lost")]
    }

    /// Returns this world with another record of a session.
    pub(crate) fn put(&self, key: Key, session: Session) -> Self {
        let mut world = self.clone();
        world.sessions[key] = Some(Rc::new(session));
        world
    }

    /// Returns this world with another record of a user.
    pub(crate) fn put_user(&self, name: Name, user: User) -> Self {
        let mut world = self.clone();
        world.users[name] = Some(Rc::new(user));
        world
    }

    /// Returns this world with a record of a user who is known.
    pub(crate) fn put_user_if(&self, known: bool, name: Name, user: User) -> Self {
        if known {
            self.put_user(name, user)
        } else {
            self.clone()
        }
    }

    /// Returns this world with one more event.
    pub(crate) fn noting(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// Draws a number that no revocation has had.
    pub(crate) fn draw(&mut self) -> u8 {
        self.drawn += 1;
        self.drawn
    }

    /// Ends a session while it is that user's.
    pub(crate) fn end(&self, key: Key, user: Name) -> Self {
        match self.session(key) {
            Some(session) if session.user == Some(user) => self.put(key, Session::tombstone()),
            _ => self.clone(),
        }
    }

    /// Strikes sessions off a user's list.
    pub(crate) fn strike_off(&self, name: Name, keys: &[Key]) -> Self {
        let Some(user) = self.user(name) else {
            return self.clone();
        };
        let mut user = user.clone();
        user.strike_off(keys);
        self.put_user(name, user)
    }
}
