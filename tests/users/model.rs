//! Random histories of browsers and users, against a model of plain maps.
//!
//! After each step the model says what every browser sees, what is stored of each user, and which sessions are
//! live. Where a login breaks off, the model looks how far it came, and from there on knows again.

use std::time::Duration;

use axum::handler::Handler;
use http::StatusCode;
use proptest::prelude::*;
use session_runtime::store::{Durability, SqliteStore, Store};
use session_runtime::{Error, Key, PassiveSession, Session, Sessions, State, Timestamp, UserId};
use session_tests::{Fault, Reply, Site, Visitor, times};
use tokio::runtime::Builder;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const IDLE: Duration = Duration::from_secs(2 * 60 * 60);
const ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// When a login that broke off is given up.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// How long an id that a login or logout has replaced writes nothing.
const BARRED: Duration = Duration::from_secs(5 * 60);

const BROWSERS: usize = 3;
const USERS: [&str; 2] = ["ada", "bob"];

#[derive(Session)]
struct Shop {
    theme: u32,
    #[flash]
    notice: Option<u32>,
    #[merge(append)]
    seen: Vec<u32>,
    #[merge(sum)]
    points: u32,
}

/// What a browser sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    user: Option<usize>,
    theme: u32,
    notice: Option<u32>,
    held: Held,
}

/// What follows a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    seen: Vec<u32>,
    points: u32,
}

impl Held {
    fn add(&mut self, number: u32) {
        self.seen.push(number);
        self.points += number;
    }

    fn credit(&mut self, guest: &Self) {
        self.seen.extend(&guest.seen);
        self.points += guest.points;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Paint(usize),
    Note(usize),
    ReadNotice(usize),
    Login(usize, usize),
    /// All calls of the store fail from this one on, before or after its effect.
    Crash(usize, usize, usize, bool),
    Logout(usize),
    Rotate(usize),
    Revoke(usize),
    RevokeOthers(usize),
    RevokeAll(usize),
    Delete(usize),
    Pass(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let browser = || 0..BROWSERS;
    let user = || 0..USERS.len();
    let times = vec![
        10 * SECOND,
        10 * SECOND,
        MINUTE,
        5 * MINUTE,
        15 * MINUTE,
        HOUR,
        IDLE,
        ABSOLUTE - DAY,
    ];
    let step = prop_oneof![
        5 => browser().prop_map(Step::Add),
        2 => browser().prop_map(Step::Paint),
        2 => browser().prop_map(Step::Note),
        2 => browser().prop_map(Step::ReadNotice),
        5 => (browser(), user()).prop_map(|(browser, user)| Step::Login(browser, user)),
        4 => (browser(), user(), 0..14_usize, any::<bool>())
            .prop_map(|(browser, user, call, after)| Step::Crash(browser, user, call, after)),
        2 => browser().prop_map(Step::Logout),
        2 => browser().prop_map(Step::Rotate),
        1 => browser().prop_map(Step::Revoke),
        1 => browser().prop_map(Step::RevokeOthers),
        1 => user().prop_map(Step::RevokeAll),
        1 => user().prop_map(Step::Delete),
        5 => prop::sample::select(times).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..40)
}

/// A session, as the model has it.
#[derive(Clone, Debug)]
struct Known {
    /// Where it is; `None` if its id was never sent.
    key: Option<Key>,
    user: Option<usize>,
    created: Timestamp,
    expires: Timestamp,
    theme: u32,
    notice: Option<u32>,
    /// What a guest has gathered.
    held: Held,
    fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Live,
    /// A login as that user broke off.
    Claimed {
        by: usize,
        at: Timestamp,
        credited: bool,
    },
    /// Over. Until this time its id writes nothing.
    Ended(Option<Timestamp>),
}

/// What a browser's cookie comes to.
enum Presented {
    Nothing,
    /// An id that writes nothing; a claim of this session can be taken up.
    Barred(Option<usize>),
    Session(usize),
}

struct Model {
    now: Timestamp,
    sessions: Vec<Known>,
    /// Which session's id each browser has.
    cookies: [Option<usize>; BROWSERS],
    users: [Held; USERS.len()],
}

impl Model {
    /// What time has made of the session, now that it is presented.
    fn present(&mut self, browser: usize) -> Presented {
        let Some(at) = self.cookies[browser] else {
            return Presented::Nothing;
        };
        let (now, session) = (self.now, &mut self.sessions[at]);
        match session.fate {
            Fate::Ended(Some(until)) if now < until => return Presented::Barred(None),
            Fate::Ended(_) => return Presented::Nothing,
            _ if session.expires <= now => return Presented::Nothing,
            Fate::Live => return Presented::Session(at),
            Fate::Claimed { at: since, .. } if now.since(since) < GIVEN_UP => {
                return Presented::Barred(Some(at));
            }
            Fate::Claimed { credited, .. } if !credited => {
                session.fate = Fate::Live;
                return Presented::Session(at);
            }
            Fate::Claimed { at: since, .. } if now.since(since) < BARRED => {
                return Presented::Barred(Some(at));
            }
            Fate::Claimed { .. } => session.fate = Fate::Ended(Some(now + BARRED)),
        }
        Presented::Barred(None)
    }

    fn sees(&mut self, browser: usize) -> Seen {
        let Presented::Session(at) = self.present(browser) else {
            return Seen::default();
        };
        let session = &self.sessions[at];
        Seen {
            user: session.user,
            theme: session.theme,
            notice: session.notice,
            held: match session.user {
                Some(user) => self.users[user].clone(),
                None => session.held.clone(),
            },
        }
    }

    fn is_open(&self, session: &Known) -> bool {
        !matches!(session.fate, Fate::Ended(_)) && self.now < session.expires
    }

    fn listed(&self, user: usize) -> usize {
        let sessions = self.sessions.iter();
        sessions
            .filter(|session| session.user == Some(user) && self.is_open(session))
            .count()
    }

    /// A request uses the session; one that writes to it extends it by any time, others by a tenth at least.
    fn touch(&mut self, at: usize, writes: bool) {
        let session = &mut self.sessions[at];
        let limit = session.created + ABSOLUTE;
        let to = (self.now + IDLE).min(limit);
        let worth = to == limit || to.since(session.expires) >= IDLE / 10;
        if to > session.expires && (writes || worth) {
            session.expires = to;
        }
    }

    /// A new session of which nothing is known yet but whose it is. Its browser gets its id.
    fn begin(&mut self, browser: Option<usize>, user: Option<usize>) -> usize {
        let at = self.sessions.len();
        self.sessions.push(Known {
            key: None,
            user,
            created: self.now,
            expires: self.now + IDLE,
            theme: 0,
            notice: None,
            held: Held::default(),
            fate: Fate::Live,
        });
        if let Some(browser) = browser {
            self.cookies[browser] = Some(at);
        }
        at
    }

    /// A request changes something: `follows` the user, or stays with the browser.
    fn change(
        &mut self,
        browser: usize,
        follows: bool,
        change: impl FnOnce(&mut Known, Option<&mut Held>),
    ) {
        let at = match self.present(browser) {
            Presented::Barred(_) => return,
            Presented::Session(at) => at,
            Presented::Nothing => self.begin(Some(browser), None),
        };
        let user = self.sessions[at].user;
        self.touch(at, !(follows && user.is_some()));
        let account = user.map(|user| &mut self.users[user]);
        change(&mut self.sessions[at], account);
    }

    fn end(&mut self, ends: impl Fn(usize, &Known) -> bool) {
        for at in 0..self.sessions.len() {
            let session = &self.sessions[at];
            if self.is_open(session) && ends(at, session) {
                self.sessions[at].fate = Fate::Ended(None);
            }
        }
    }

    /// What a login as `user` is to come to: the session it starts from, and whether that is to be credited.
    fn gathers(&mut self, browser: usize, user: usize) -> (Option<usize>, bool) {
        match self.present(browser) {
            Presented::Session(at) => match self.sessions[at].user {
                None => (Some(at), true),
                Some(owner) if owner == user => (Some(at), false),
                Some(_) => (None, false),
            },
            Presented::Barred(Some(at)) => match self.sessions[at].fate {
                Fate::Claimed { by, credited, .. } if by == user => {
                    (Some(at), !credited && self.sessions[at].user.is_none())
                }
                _ => (None, false),
            },
            _ => (None, false),
        }
    }

    /// Whether a login as `user` has to wait, since the guest's things may yet become another's.
    fn waits(&mut self, browser: usize, user: usize) -> bool {
        let Presented::Barred(Some(at)) = self.present(browser) else {
            return false;
        };
        let session = &self.sessions[at];
        let others =
            matches!(session.fate, Fate::Claimed { by, credited: false, .. } if by != user);
        others && session.user.is_none()
    }

    /// The login comes to its end, or so far that the client gets its id.
    fn login(&mut self, browser: usize, user: usize) {
        let (from, credits) = self.gathers(browser, user);
        let old = self.replaced(browser).or(from);
        if let (Some(from), true) = (from, credits) {
            let held = self.sessions[from].held.clone();
            self.users[user].credit(&held);
        }
        let at = self.begin(Some(browser), Some(user));
        if let Some(from) = from {
            self.sessions[at].theme = self.sessions[from].theme;
            self.sessions[at].notice = self.sessions[from].notice;
        }
        if let Some(old) = old {
            self.sessions[old].fate = Fate::Ended(Some(self.now + BARRED));
        }
    }

    /// The session that a login takes the place of, be it frozen; that of another user, too.
    fn replaced(&mut self, browser: usize) -> Option<usize> {
        match self.present(browser) {
            Presented::Session(at) => Some(at),
            Presented::Barred(at) => at.filter(|at| self.sessions[*at].user.is_some()),
            Presented::Nothing => None,
        }
    }

    fn delete(&mut self, user: usize) {
        self.users[user] = Held::default();
        self.end(|_, session| session.user == Some(user));
        for session in &mut self.sessions {
            if let Fate::Claimed { by, credited, .. } = &mut session.fate
                && *by == user
            {
                *credited = false; // what was credited is gone with the user
            }
        }
    }
}

async fn peek(session: PassiveSession<Shop>) -> String {
    let user = session.user();
    let user = user.and_then(|user| USERS.iter().position(|name| *name == user.as_str()));
    let seen = Seen {
        user,
        theme: *session.theme.get(),
        notice: *session.notice.peek(),
        held: Held {
            seen: session.seen.get().clone(),
            points: *session.points.get(),
        },
    };
    format!("{seen:?}")
}

async fn logout(mut session: Session<Shop>) -> Result<(), Error> {
    session.logout().await
}

async fn rotate(mut session: Session<Shop>) -> Result<(), Error> {
    session.rotate().await
}

async fn read_notice(session: Session<Shop>) -> String {
    format!("{:?}", session.notice.get())
}

async fn device(session: PassiveSession<Shop>) -> String {
    session.device().unwrap_or_default()
}

/// The site, and the model of it.
struct World<S> {
    site: Site<S>,
    browsers: Vec<Visitor>,
    model: Model,
    /// A number that was not used before.
    next: u32,
    /// What happens to all calls after a login has broken off.
    outage: Fault,
}

impl<S: Store> World<S> {
    fn new(site: Site<S>, outage: Fault) -> Self {
        let site = site.with(|layer| layer.sweep_every(None));
        Self {
            browsers: (0..BROWSERS).map(|_| site.visitor()).collect(),
            model: Model {
                now: site.now(),
                sessions: Vec::new(),
                cookies: [None; BROWSERS],
                users: Default::default(),
            },
            site,
            next: 0,
            outage,
        }
    }

    /// A request that succeeds.
    async fn visit<T: 'static>(&mut self, browser: usize, handler: impl Handler<T, ()>) -> String {
        let reply = self.browsers[browser].visit(handler).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        reply.body
    }

    /// Where the browser's session is, once it has a new id.
    fn note_key(&mut self, browser: usize) {
        let visitor = &self.browsers[browser];
        let key = (!visitor.id().is_empty()).then(|| visitor.key());
        if let Some(at) = self.model.cookies[browser] {
            self.model.sessions[at].key = key;
        }
    }

    async fn login(&mut self, browser: usize, user: usize) -> Reply {
        let user = UserId::from(USERS[user]);
        let handler = async move |mut session: Session<Shop>| session.login(user).await;
        self.browsers[browser].visit(handler).await
    }

    async fn listed(&self, user: usize) -> usize {
        let listed = self.site.layer.sessions().list(&USERS[user].into()).await;
        listed.unwrap().len()
    }

    /// What is stored of a user.
    async fn account(&self, user: usize) -> Held {
        let key = Key::User(USERS[user].into());
        let record = self.site.store.inner().load(&key).await.unwrap();
        let field = |name: &str| {
            let slot = record.as_ref()?.live_slot(name, self.site.now())?;
            Some(slot.payload().clone())
        };
        let read = |json: &[u8]| serde_json::from_slice(json).unwrap();
        Held {
            seen: field("seen").map_or_else(Vec::new, |json| read(&json)),
            points: field("points").map_or(0, |json| serde_json::from_slice(&json).unwrap()),
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Add(browser) => self.add(browser).await,
            Step::Paint(browser) => self.paint(browser).await,
            Step::Note(browser) => self.note(browser).await,
            Step::ReadNotice(browser) => {
                let read = self.visit(browser, read_notice).await;
                let expected = self.model.sees(browser).notice;
                assert_eq!(read, format!("{expected:?}"));
                if let Presented::Session(at) = self.model.present(browser) {
                    self.model.touch(at, expected.is_some());
                    self.model.sessions[at].notice = None;
                }
            }
            Step::Login(browser, user) => {
                let reply = self.login(browser, user).await;
                if self.model.waits(browser, user) {
                    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
                    return;
                }
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
                assert_eq!(reply.set_cookies().len(), 1);
                self.model.login(browser, user);
                self.note_key(browser);
            }
            Step::Crash(browser, user, call, after) => {
                self.crash(browser, user, (call, after)).await;
            }
            Step::Logout(browser) => {
                self.visit(browser, logout).await;
                if let Presented::Session(at) | Presented::Barred(Some(at)) =
                    self.model.present(browser)
                {
                    self.model.sessions[at].fate = Fate::Ended(Some(self.model.now + BARRED));
                    self.model.cookies[browser] = None;
                }
            }
            Step::Rotate(browser) => {
                self.visit(browser, rotate).await;
                if let Presented::Session(at) = self.model.present(browser) {
                    self.model.touch(at, true);
                    self.note_key(browser);
                }
            }
            Step::Revoke(browser) => self.revoke(browser).await,
            Step::RevokeOthers(browser) => self.revoke_others(browser).await,
            Step::RevokeAll(user) => {
                let expected = self.model.listed(user);
                let revoked = self.sessions().revoke_all(&USERS[user].into()).await;
                assert_eq!(revoked.unwrap(), expected);
                self.model.end(|_, session| session.user == Some(user));
            }
            Step::Delete(user) => {
                let deleted = self.sessions().delete(&USERS[user].into()).await;
                deleted.unwrap();
                self.model.delete(user);
            }
            Step::Pass(time) => {
                self.site.clock.advance(time);
                self.model.now = self.site.now();
            }
        }
    }

    fn sessions(&self) -> Sessions {
        self.site.layer.sessions()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    async fn add(&mut self, browser: usize) {
        let number = self.number();
        let handler = async move |mut session: Session<Shop>| {
            session.seen.get_mut().push(number);
            *session.points.get_mut() += number;
        };
        self.visit(browser, handler).await;
        let add = |session: &mut Known, account: Option<&mut Held>| {
            account.unwrap_or(&mut session.held).add(number);
        };
        self.model.change(browser, true, add);
        self.note_key(browser);
    }

    async fn paint(&mut self, browser: usize) {
        let number = self.number();
        let handler = async move |mut session: Session<Shop>| session.theme.set(number);
        self.visit(browser, handler).await;
        let paint = |session: &mut Known, _: Option<&mut Held>| session.theme = number;
        self.model.change(browser, false, paint);
        self.note_key(browser);
    }

    async fn note(&mut self, browser: usize) {
        let number = self.number();
        let handler = async move |mut session: Session<Shop>| session.notice.set(Some(number));
        self.visit(browser, handler).await;
        let note = |session: &mut Known, _: Option<&mut Held>| {
            session.notice = Some(number);
        };
        self.model.change(browser, false, note);
        self.note_key(browser);
    }

    async fn revoke(&mut self, browser: usize) {
        let device = self.visit(browser, device).await;
        if let Some(user) = self.model.sees(browser).user {
            let sessions = self.sessions();
            let revoked = sessions.revoke(&USERS[user].into(), &device).await;
            assert!(revoked.unwrap());
            let this = self.model.cookies[browser];
            self.model.end(|at, _| Some(at) == this);
        }
    }

    async fn revoke_others(&mut self, browser: usize) {
        let device = self.visit(browser, device).await;
        if let Some(user) = self.model.sees(browser).user {
            let expected = self.model.listed(user) - 1;
            let sessions = self.sessions();
            let revoked = sessions.revoke_others(&USERS[user].into(), &device).await;
            assert_eq!(revoked.unwrap(), expected);
            let spared = self.model.cookies[browser];
            self.model
                .end(|at, session| session.user == Some(user) && Some(at) != spared);
        }
    }

    /// A login breaks off. How far it came is looked up; it must have come to one of a few places.
    async fn crash(&mut self, browser: usize, user: usize, (call, after): (usize, bool)) {
        let (from, credits) = self.model.gathers(browser, user);
        let before = self.account(user).await;
        let listed = self.listed(user).await;
        let fault = if after { Fault::After } else { Fault::Before };
        self.site.store.fail_after(call, fault, self.outage);
        let reply = self.login(browser, user).await;
        self.site.store.heal();

        let account = self.account(user).await;
        let mut with_guests = before.clone();
        if let (Some(from), true) = (from, credits) {
            with_guests.credit(&self.model.sessions[from].held);
        }
        let credited = account == with_guests;
        assert!(credited || account == before, "{account:?}, not {before:?}");
        if !reply.set_cookies().is_empty() {
            // The client has its id: what is left to do is to end the old session.
            assert!(credited);
            let old = self.model.replaced(browser).or(from);
            self.model.login(browser, user);
            if let Some(old) = old {
                self.look_at(old).await;
                let fate = &self.model.sessions[old].fate;
                let is_given_back =
                    matches!(fate, Fate::Claimed { by, credited: false, .. } if *by == user);
                assert!(!is_given_back, "with the new id, the old one opens nothing");
            }
            self.note_key(browser);
            return;
        }
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        self.model.users[user] = account.clone();
        let orphan = self.listed(user).await - listed;
        assert!(orphan <= 1, "a login opens one session");
        if orphan == 1 {
            self.model.begin(None, Some(user));
        }
        if let Some(from) = from {
            let is_marked = self.is_marked(from, user).await;
            assert!(account == before || is_marked, "what is credited is marked");
            self.look_at(from).await;
        }
    }

    /// Whether the user's record says that the guest's has been credited.
    async fn is_marked(&self, at: usize, user: usize) -> bool {
        let account = Key::User(USERS[user].into());
        let account = self.site.store.inner().load(&account).await.unwrap();
        let key = self.model.sessions[at].key.as_ref().unwrap();
        let mark = account.and_then(|account| account.slot(&format!("@merged/{key}")).cloned());
        mark.is_some_and(|mark| mark.payload() == "true")
    }

    /// Looks up what a login that broke off has left of the session it came from.
    async fn look_at(&mut self, at: usize) {
        let key = self.model.sessions[at].key.clone().unwrap();
        let record = self.site.store.inner().load(&key).await.unwrap().unwrap();
        self.model.sessions[at].fate = match &record.state {
            State::Live => Fate::Live,
            State::Claimed { by, at: since, .. } => {
                let by = USERS.iter().position(|user| *user == by.as_str()).unwrap();
                Fate::Claimed {
                    by,
                    at: *since,
                    credited: self.is_marked(at, by).await,
                }
            }
            State::Ended(_) => Fate::Ended(Some(self.model.now + BARRED)),
            State::Moved(_) => panic!("nobody has rotated it"),
        };
    }

    async fn check(&mut self) {
        for browser in 0..BROWSERS {
            let seen = self.browsers[browser].visit(peek).await;
            let expected = self.model.sees(browser);
            assert_eq!(seen.body, format!("{expected:?}"), "browser {browser}");
            assert!(seen.set_cookies().is_empty());
        }
        for user in 0..USERS.len() {
            assert_eq!(self.account(user).await, self.model.users[user], "{user}");
            assert_eq!(self.listed(user).await, self.model.listed(user), "{user}");
        }
        for session in &self.model.sessions {
            let Some(key) = &session.key else { continue };
            let record = self.site.store.inner().load(key).await.unwrap();
            let now = self.site.now();
            let open = record.filter(|record| record.state.is_open() && record.is_live(now));
            assert_eq!(open.is_some(), self.model.is_open(session), "{session:?}");
            if let Some(record) = open {
                assert_eq!(record.expires, session.expires, "{session:?}");
            }
        }
    }

    async fn live_through(mut self, history: &[Step]) {
        for step in history {
            self.take(step).await;
            self.check().await;
        }
    }
}

/// So many histories, or [`times`] as many.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count * u32::try_from(times()).unwrap(),
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn any_history_in_memory_comes_out_as_in_plain_maps(history in steps()) {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        // Until the deadline, which costs nothing where time is paused.
        let hasty = Site::in_memory().with(|layer| layer.deadline(Duration::from_millis(10)));
        runtime.unwrap().block_on(World::new(hasty, Fault::Before).live_through(&history));
    }
}

/// A file that need not outlive a power cut.
fn fast_file(folder: &session_tests::TempDir) -> Site<SqliteStore> {
    Site::new(|clock| {
        let options = SqliteStore::options()
            .clock(clock)
            .durability(Durability::Fast);
        options
            .open(folder.path().join("db"))
            .expect("a fresh file")
    })
}

proptest! {
    #![proptest_config(cases(20))]
    #[test]
    fn any_history_in_a_file_comes_out_as_in_plain_maps(history in steps()) {
        let runtime = Builder::new_current_thread().enable_all().build();
        let folder = session_tests::TempDir::new().unwrap();
        runtime.unwrap().block_on(World::new(fast_file(&folder), Fault::Full).live_through(&history));
    }
}
