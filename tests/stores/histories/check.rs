//! What a history must be like. Each check is sound: a store that keeps its promises never fails it, whatever was in
//! flight; a request without an answer may have happened at any time from its start on, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use session_tests::histories::{CODE_MILLIS, Kind, LIMIT, Seen, Told, selector};

use super::run::{BROWSERS, Mix};

/// Microseconds since the history began.
pub(super) type Moment = u64;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// What it set or added.
    pub(super) id: u64,
    /// The user whom it names: that of the browser that has sent it, unless anybody logs in anywhere.
    pub(super) user: String,
    /// The id that it presented.
    pub(super) presented: Option<String>,
    pub(super) start: Moment,
    pub(super) end: Moment,
    /// What the answer said; `None` if it was an error, or there was none.
    pub(super) told: Option<Told>,
    /// The id that the answer has set.
    pub(super) set: Option<String>,
}

impl Event {
    /// By when it has happened, if it has.
    fn over(&self) -> Moment {
        if self.told.is_some() {
            self.end
        } else {
            Moment::MAX
        }
    }

    /// The session whose id it presented.
    fn aims_at(&self) -> Option<&str> {
        self.presented.as_deref().map(selector)
    }

    /// Returns `true` if it adds a number to a log.
    fn adds(&self) -> bool {
        matches!(self.kind, Kind::Add | Kind::Job)
    }

    fn saved(&self) -> Option<bool> {
        self.told.as_ref()?.saved
    }

    /// Returns where it has written: its session, and its user.
    fn place(&self) -> (Option<&str>, Option<&str>) {
        let Some(told) = &self.told else {
            // An answer that is an error tells an id, too, if one was issued before.
            let issued = self.set.as_deref().map(selector);
            return (self.aims_at().or(issued), None);
        };
        let session = told.loaded.as_deref().or(told.session.as_deref());
        (session, told.user.as_deref())
    }
}

/// A history, and what is looked up in it often.
struct History<'a> {
    events: &'a [Event],
    mix: Mix,
    /// When the first login began that presented an id of the session.
    first_login: HashMap<&'a str, Moment>,
}

/// Panics if something is wrong, after the deletions too, and leaves the history in a file to read.
pub(super) fn fits(store: &str, seed: u64, events: &[Event], deleted: &[Event]) {
    use std::fmt::Write as _;
    let wrong = [check(events, Mix::of(seed)), gone(deleted)].concat();
    if wrong.is_empty() {
        return;
    }
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/history");
    let mut text = String::new();
    for event in events.iter().chain(deleted) {
        writeln!(text, "{event:?}").expect("text");
    }
    std::fs::write(file, text).expect("a scratch folder");
    panic!("{store}, HISTORY_SEED={seed}: {wrong:#?}\nall of it is in {file}");
}

/// Returns what is wrong, in words.
pub(super) fn check(events: &[Event], mix: Mix) -> Vec<String> {
    let mut first_login = HashMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Login) {
        if let Some(session) = event.aims_at() {
            let first = first_login.entry(session).or_insert(event.start);
            *first = event.start.min(*first);
        }
    }
    let history = History {
        events,
        mix,
        first_login,
    };
    let wrong = [
        history.torn(),
        history.logs_grow(),
        history.added_once(),
        history.registers(),
        history.clicks(),
        history.endings(),
        history.ids(),
        history.flashes(),
        history.codes(),
        history.crowds(),
    ];
    wrong.concat()
}

/// Lists who is still logged in as a user who was deleted before, or has something of that user's.
pub(super) fn gone(events: &[Event]) -> Vec<String> {
    let remains = reads(events).filter(|(event, told, seen)| match event.kind {
        Kind::Read => told.user.is_some(),
        Kind::Login => (seen.points, seen.name, seen.log.len()) != (0, 0, 0),
        _ => false,
    });
    remains
        .map(|(event, _, _)| format!("a deleted user is not gone: {event:?}"))
        .collect()
}

fn reads(events: &[Event]) -> impl Iterator<Item = (&Event, &Told, &Seen)> {
    let told = events.iter().filter_map(|event| {
        let told = event.told.as_ref()?;
        Some((event, told, &told.seen))
    });
    told.filter(|(_, told, _)| told.loaded.is_some() || told.user.is_some())
}

impl<'a> History<'a> {
    /// Returns `true` if a guest's request may have ended after a login in its session began: it is told that it has
    /// written, and part of that may be dropped.
    fn is_late(&self, event: &Event) -> bool {
        let (session, user) = event.place();
        user.is_none()
            && session.is_some_and(|session| {
                let first = self.first_login.get(session);
                first.is_some_and(|first| *first < event.over())
            })
    }

    /// Lists what was written together and seen apart.
    fn torn(&self) -> Vec<String> {
        let torn = reads(self.events).filter(|(_, _, seen)| {
            let log: HashSet<_> = seen.log.iter().collect();
            seen.points != seen.log.len() as u64 || log.len() != seen.log.len()
        });
        torn.map(|(event, _, _)| format!("torn, or added twice: {event:?}"))
            .collect()
    }

    /// Lists requests that miss what was added before they began, or what an earlier one has seen.
    fn logs_grow(&self) -> Vec<String> {
        let mut owners: BTreeMap<(bool, &str), Vec<(&Event, &Seen)>> = BTreeMap::new();
        for (event, told, seen) in reads(self.events) {
            let owner = match (&told.user, &told.loaded) {
                (Some(user), _) => (true, user.as_str()),
                (None, Some(session)) => (false, session.as_str()),
                (None, None) => continue,
            };
            owners.entry(owner).or_default().push((event, seen));
        }
        let mut wrong = Vec::new();
        for (owner, mut reads) in owners {
            // From when each number must be seen.
            let mut sure: Vec<(Moment, u64)> = Vec::new();
            for (event, seen) in &reads {
                sure.extend(seen.log.iter().map(|id| (event.end, *id)));
            }
            let added = self.events.iter().filter(|event| {
                let (session, user) = event.place();
                let place = user
                    .map(|user| (true, user))
                    .or(session.map(|name| (false, name)));
                event.adds()
                    && event.saved() == Some(true)
                    && place == Some(owner)
                    && !self.is_late(event)
            });
            sure.extend(added.map(|event| (event.end, event.id)));
            sure.sort_unstable();
            reads.sort_by_key(|(event, _)| event.start);
            let (mut must, mut next) = (BTreeSet::new(), 0);
            for (event, seen) in reads {
                while next < sure.len() && sure[next].0 < event.start {
                    must.insert(sure[next].1);
                    next += 1;
                }
                let there: HashSet<_> = seen.log.iter().copied().collect();
                if let Some(id) = must.iter().find(|id| !there.contains(id)) {
                    wrong.push(format!("{id} of {owner:?} is not seen: {event:?}"));
                }
            }
        }
        wrong
    }

    /// Each number is in the end where it was added, once; one that was not acknowledged once at most.
    fn added_once(&self) -> Vec<String> {
        let mut last: BTreeMap<&str, &Event> = BTreeMap::new();
        for (event, told, _) in reads(self.events) {
            if let Some(user) = &told.user {
                let latest = last.entry(user).or_insert(event);
                if event.start > latest.start {
                    *latest = event;
                }
            }
        }
        let mut there: HashMap<u64, Vec<&str>> = HashMap::new();
        for (user, event) in &last {
            for id in event.told.iter().flat_map(|told| &told.seen.log) {
                there.entry(*id).or_default().push(user);
            }
        }
        let mut wrong = Vec::new();
        for event in self.events.iter().filter(|event| event.adds()) {
            let found = there.remove(&event.id).unwrap_or_default();
            match found[..] {
                [] if self.is_kept(event) => wrong.push(format!("lost: {event:?}")),
                [] => {}
                [user] if self.may_reach(event, user) && event.saved() != Some(false) => {}
                _ => wrong.push(format!("of {found:?}, unasked or too often: {event:?}")),
            }
        }
        wrong.extend(there.keys().map(|id| format!("{id} comes from nowhere")));
        wrong
    }

    /// Returns `true` if what the request has added may be in that user's log.
    fn may_reach(&self, event: &Event, user: &str) -> bool {
        match event.place() {
            (_, Some(own)) => own == user,
            _ => self.mix == Mix::Shared && event.kind == Kind::Add || event.user == user,
        }
    }

    /// Returns `true` if what the request has added is in its user's log when all browsers have logged in.
    fn is_kept(&self, event: &Event) -> bool {
        let (session, user) = event.place();
        if event.saved() != Some(true) || user.is_some() {
            return event.saved() == Some(true);
        }
        let Some(session) = session else {
            return false;
        };
        let goes_on = |other: &&Event| {
            let told = other.told.as_ref();
            told.is_some_and(|told| {
                told.user.is_some()
                    && [&told.loaded, &told.session].contains(&&Some(session.to_owned()))
            })
        };
        if !self.is_late(event) {
            // A login has taken it along.
            let login = |event: &Event| event.kind == Kind::Login;
            let mut logins = self.events.iter().filter(|event| login(event));
            return logins.any(|login| {
                let told = login.told.as_ref();
                told.is_some_and(|told| told.session.as_deref() == Some(session))
            });
        }
        // It is set apart in the session, and credited by the user's next request unless the session has ended by then.
        let ends = |other: &Event| {
            self.may_end(other, session, &event.user) && other.over() >= event.start
        };
        !self.events.iter().any(ends)
            && self
                .events
                .iter()
                .filter(goes_on)
                .any(|other| other.start > event.end)
    }

    /// Returns `true` if a request may end a session, one of that user's if each browser is of one user.
    fn may_end(&self, event: &Event, session: &str, user: &str) -> bool {
        let is_of_user = self.mix == Mix::Shared || event.user == user;
        match event.kind {
            Kind::Logout => event.aims_at() == Some(session),
            Kind::RevokeAll | Kind::RevokeOthers => is_of_user,
            Kind::Login => match self.mix {
                Mix::Plain => false,
                Mix::Limited => is_of_user,
                // Another user takes its place.
                Mix::Shared => event.aims_at() == Some(session),
            },
            _ => false,
        }
    }

    /// Each field without a rule is a register.
    fn registers(&self) -> Vec<String> {
        type Field = (&'static str, Kind, fn(&Seen) -> u64);
        let fields: [Field; 3] = [
            ("a", Kind::SetA, |seen| seen.a),
            ("b", Kind::SetB, |seen| seen.b),
            ("name", Kind::Name, |seen| seen.name),
        ];
        let mut wrong = Vec::new();
        for (name, kind, field) in fields {
            let mut registers: BTreeMap<&str, Register> = BTreeMap::new();
            for (event, told, seen) in reads(self.events) {
                let of = if kind == Kind::Name {
                    &told.user
                } else {
                    &told.loaded
                };
                // A login may go on in another session than was loaded.
                let of = match (of, event.kind) {
                    (Some(_), Kind::Login) if kind != Kind::Name => &told.session,
                    (of, _) => of,
                };
                if let Some(of) = of {
                    registers
                        .entry(of)
                        .or_default()
                        .read(field(seen), event.start, event.end);
                }
            }
            for event in self.events.iter().filter(|event| event.kind == kind) {
                let (session, user) = event.place();
                let is_written_to = |of: &str| match (kind, user) {
                    (Kind::Name, Some(user)) => user == of,
                    (Kind::Name, None) => self.mix == Mix::Shared || event.user == of,
                    _ => session == Some(of),
                };
                // Others nobody has looked at.
                for (_, register) in registers.iter_mut().filter(|(of, _)| is_written_to(of)) {
                    match event.saved() {
                        Some(true) if !self.is_late(event) => {
                            register.write(event.id, event.start, event.end);
                        }
                        Some(false) => register.refused.push(event.id),
                        _ => register.may_write(event.id, event.start),
                    }
                }
            }
            for (of, register) in registers {
                wrong.extend(
                    register
                        .check()
                        .map(|what| format!("{name} of {of}: {what}")),
                );
            }
        }
        wrong
    }

    /// Each click counts once.
    fn clicks(&self) -> Vec<String> {
        let adds = || self.events.iter().filter(|event| event.kind == Kind::Add);
        let mut wrong = Vec::new();
        for (event, told, seen) in reads(self.events) {
            let session = if event.kind == Kind::Login {
                &told.session
            } else {
                &told.loaded
            };
            let Some(session) = session.as_deref() else {
                continue;
            };
            let of = |add: &&Event| add.place().0 == Some(session);
            let sure = adds().filter(of).filter(|add| {
                add.saved() == Some(true) && add.end < event.start && !self.is_late(add)
            });
            let possible = adds().filter(of).filter(|add| add.start < event.end);
            let (sure, possible) = (sure.count() as u64, possible.count() as u64);
            // What a login has brought into a new session is not looked into.
            if !(sure..=possible).contains(&seen.clicks)
                && told.loaded == told.session.clone().or(told.loaded.clone())
            {
                wrong.push(format!(
                    "{} clicks of {sure} to {possible}: {event:?}",
                    seen.clicks
                ));
            }
        }
        wrong
    }

    /// Nothing opens a session that was ended before.
    fn endings(&self) -> Vec<String> {
        let mut ended: HashMap<&str, &Event> = HashMap::new();
        for event in self.events {
            for session in self.ends(event) {
                let first = ended.entry(session).or_insert(event);
                if event.end < first.end {
                    *first = event;
                }
            }
        }
        let mut wrong = Vec::new();
        for (event, told, _) in reads(self.events) {
            for session in [&told.loaded, &told.session].into_iter().flatten() {
                let end = ended.get(session.as_str());
                if let Some(end) = end.filter(|end| end.end < event.start) {
                    wrong.push(format!(
                        "{session} is open: {event:?}, and was ended: {end:?}"
                    ));
                }
            }
        }
        wrong
    }

    /// The sessions that a request has certainly ended.
    fn ends(&self, event: &'a Event) -> Vec<&'a str> {
        let Some(told) = &event.told else {
            return Vec::new();
        };
        match event.kind {
            // An id that a login supersedes meanwhile ends nothing.
            Kind::Logout if told.user.is_some() => {
                let login = |other: &Event| {
                    other.kind == Kind::Login
                        && other.aims_at() == told.loaded.as_deref()
                        && other.start < event.end
                        && other.over() > event.start
                };
                let ends = !self.events.iter().any(login);
                told.loaded
                    .as_deref()
                    .filter(|_| ends)
                    .into_iter()
                    .collect()
            }
            Kind::RevokeAll | Kind::RevokeOthers if told.saved.is_some() => {
                let spared = told
                    .loaded
                    .as_ref()
                    .filter(|_| event.kind == Kind::RevokeOthers);
                let known = reads(self.events).filter(|(earlier, known, _)| {
                    known.user.as_ref() == Some(&event.user) && earlier.end < event.start
                });
                let known = known
                    .filter_map(|(_, known, _)| known.session.as_ref().or(known.loaded.as_ref()));
                known
                    .filter(|session| Some(*session) != spared)
                    .map(String::as_str)
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// An id that was sent opens its session until something ends it, and none from before a login does.
    fn ids(&self) -> Vec<String> {
        let mut issued: HashMap<&str, &Event> = HashMap::new();
        for event in self.events {
            if let Some(id) = &event.set {
                issued.insert(id, event);
            }
        }
        let mut wrong = Vec::new();
        for event in self.events {
            let (Some(told), Some(id)) = (&event.told, &event.presented) else {
                continue;
            };
            let Some(issue) = issued
                .get(id.as_str())
                .filter(|_| !matches!(event.kind, Kind::Login | Kind::Job))
            else {
                continue;
            };
            let session = selector(id);
            let opens = told.loaded.as_deref() == Some(session);
            let over = |other: &Event| {
                let replaces = other.kind == Kind::Login && other.aims_at() == Some(session);
                let meant = replaces || self.may_end(other, session, &event.user);
                meant && !std::ptr::eq(other, *issue)
            };
            let may_be_over = |other: &Event| {
                over(other) && other.over() > issue.start && other.start < event.end
            };
            if !opens && !self.events.iter().any(may_be_over) {
                wrong.push(format!(
                    "an id opens nothing that was sent by {issue:?}: {event:?}"
                ));
            }
            // One that comes with an id which another has superseded leaves that other's good.
            let superseded = |other: &Event| {
                let went_on = other.told.as_ref().is_some_and(|told| {
                    [&told.loaded, &told.session].map(Option::as_deref) == [Some(session); 2]
                });
                let login = other.kind == Kind::Login && other.end < event.start;
                login && went_on && issue.end < other.start
            };
            if opens && self.events.iter().any(superseded) {
                wrong.push(format!(
                    "an id from before a login opens a session: {event:?}"
                ));
            }
        }
        wrong
    }

    /// A flash is claimed once at most, and then it is gone.
    fn flashes(&self) -> Vec<String> {
        let mut claimed: HashMap<u64, Moment> = HashMap::new();
        let mut wrong = Vec::new();
        for (event, told, _) in reads(self.events) {
            if let Some(notice) = told.claimed
                && claimed.insert(notice, event.end).is_some()
            {
                wrong.push(format!("claimed twice: {event:?}"));
            }
        }
        for (event, _, seen) in reads(self.events) {
            let at = seen.notice.and_then(|notice| claimed.get(&notice));
            if at.is_some_and(|at| *at < event.start) {
                wrong.push(format!("claimed at {at:?} and still there: {event:?}"));
            }
        }
        wrong
    }

    /// A code is gone at its time.
    fn codes(&self) -> Vec<String> {
        let sets = self.events.iter().filter(|event| event.kind == Kind::Code);
        let sets: HashMap<_, _> = sets.map(|event| (event.id, event)).collect();
        let mut wrong = Vec::new();
        for (event, _, seen) in reads(self.events) {
            let set = sets.get(&seen.code).filter(|set| set.told.is_some());
            // Clocks are cut to milliseconds.
            let late = (CODE_MILLIS + 2) * 1_000;
            if set.is_some_and(|set| set.end + late < event.start) {
                wrong.push(format!("a code after its time: {event:?}"));
            }
        }
        wrong
    }

    /// In the end, when nobody logs in any more, no user has more sessions than are allowed.
    fn crowds(&self) -> Vec<String> {
        if self.mix != Mix::Limited {
            return Vec::new();
        }
        let reads = self.events.iter().rev().filter_map(|event| {
            let told = event.told.as_ref()?;
            (event.kind == Kind::Read).then_some(told)
        });
        let mut sessions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for told in reads.take(BROWSERS) {
            if let (Some(user), Some(session)) = (&told.user, &told.loaded) {
                sessions.entry(user).or_default().insert(session);
            }
        }
        let crowds = sessions
            .iter()
            .filter(|(_, sessions)| sessions.len() > LIMIT);
        crowds
            .map(|(user, sessions)| format!("{user} has {sessions:?}"))
            .collect()
    }
}

/// What was written to a register and read from it. Each value is written once, so that it is linearizable can be told from
/// when each value was certainly there (Gibbons and Korach, 1997).
#[derive(Default)]
struct Register {
    values: BTreeMap<u64, Value>,
    /// Values that a request was told are not written.
    refused: Vec<u64>,
}

/// When something was done with a value.
struct Value {
    written: Option<Moment>,
    /// The earliest end of all that was done with it, and the latest start.
    ends: Moment,
    starts: Moment,
    is_read: bool,
    is_sure: bool,
}

impl Default for Value {
    fn default() -> Self {
        Self {
            written: None,
            ends: Moment::MAX,
            starts: 0,
            is_read: false,
            is_sure: false,
        }
    }
}

impl Value {
    fn done(&mut self, start: Moment, end: Moment) {
        self.ends = self.ends.min(end);
        self.starts = self.starts.max(start);
    }
}

impl Register {
    fn read(&mut self, value: u64, start: Moment, end: Moment) {
        let value = self.values.entry(value).or_default();
        value.is_read = true;
        value.done(start, end);
    }

    fn write(&mut self, value: u64, start: Moment, end: Moment) {
        let value = self.values.entry(value).or_default();
        (value.written, value.is_sure) = (Some(start), true);
        value.done(start, end);
    }

    /// It has happened if somebody has read it.
    fn may_write(&mut self, value: u64, start: Moment) {
        if let Some(value) = self.values.get_mut(&value) {
            value.written = Some(start);
            value.done(start, Moment::MAX);
        }
    }

    fn check(mut self) -> impl Iterator<Item = String> {
        let mut wrong = Vec::new();
        if let Some(first) = self.values.get_mut(&0) {
            first.written = Some(0);
            first.done(0, 0);
        }
        for (value, done) in &self.values {
            match done.written {
                None => wrong.push(format!("{value} was never written")),
                Some(start) if done.is_read && done.ends < start => {
                    wrong.push(format!("{value} is read before it is written"));
                }
                Some(_) => {}
            }
            if self.refused.contains(value) {
                wrong.push(format!("{value} is read, and was refused"));
            }
        }
        let there: Vec<_> = self.values.iter().collect();
        let is_forward = |done: &Value| done.ends < done.starts;
        for (value, done) in there.iter().filter(|(_, done)| is_forward(done)) {
            for (other, others) in there.iter().filter(|(other, _)| other != value) {
                let clashes = if is_forward(others) {
                    value < other && done.ends < others.starts && others.ends < done.starts
                } else {
                    done.ends < others.starts && others.ends < done.starts
                };
                if clashes {
                    wrong.push(format!(
                        "{value} was there from {} to {}, and {other} amid that",
                        done.ends, done.starts
                    ));
                }
            }
        }
        wrong.into_iter()
    }
}
