//! Rounds of requests, over real HTTP, by browsers with several tabs and by whoever has kept an old id.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{COOKIE, SET_COOKIE};
use reqwest::Client;
use session_tests::histories::{Ask, Kind, Told};
use session_tests::wait_for;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::check::{Event, Moment};

/// Browsers, of which the last is another user's; tabs of each; requests of each tab.
pub(super) const BROWSERS: usize = 4;
const TABS: usize = 2;
const REQUESTS: usize = 30;

/// How often each is asked for.
const KINDS: [(Kind, usize); 14] = [
    (Kind::Read, 20),
    (Kind::SetA, 8),
    (Kind::SetB, 5),
    (Kind::Add, 25),
    (Kind::Name, 8),
    (Kind::Notice, 4),
    (Kind::Claim, 6),
    (Kind::Code, 3),
    (Kind::Rotate, 5),
    (Kind::Login, 8),
    (Kind::Logout, 8),
    (Kind::RevokeAll, 1),
    (Kind::RevokeOthers, 1),
    (Kind::Job, 4),
];

/// What those ask for who have kept an old id.
const GHOSTS: [Kind; 4] = [Kind::Read, Kind::Read, Kind::Add, Kind::Rotate];

/// Numbers that are the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.below(2);
        dice
    }

    /// A number below `of`.
    pub(super) fn below(&mut self, of: usize) -> usize {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % of
    }

    fn kind(&mut self) -> Kind {
        let mut left = self.below(KINDS.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in KINDS {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Kind::Read
    }
}

/// The ways in which a round differs from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Each browser is one user's.
    Plain,
    /// That, and a user may have no more than two sessions.
    Limited,
    /// Anybody may log in in any browser.
    Shared,
}

impl Mix {
    pub(super) fn of(seed: u64) -> Self {
        [Self::Plain, Self::Limited, Self::Shared][(seed % 3) as usize]
    }
}

/// Where the instances are; one that is started anew is elsewhere.
pub(super) type Addresses = Arc<Mutex<Vec<String>>>;

/// A browser's cookie, and those that it has had.
#[derive(Default)]
struct Jar {
    /// `name=value`.
    cookie: Option<String>,
    past: Vec<String>,
}

/// One round.
pub(super) struct Round {
    client: Client,
    addresses: Addresses,
    began: Instant,
    number: AtomicU64,
    seed: u64,
    mix: Mix,
    jars: Vec<Mutex<Jar>>,
    events: Mutex<Vec<Event>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id in a cookie.
fn id(cookie: &str) -> String {
    cookie.split('=').nth(1).unwrap_or_default().to_owned()
}

impl Round {
    pub(super) fn new(addresses: &Addresses, client: &Client, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            client: client.clone(),
            addresses: Arc::clone(addresses),
            began: Instant::now(),
            number: AtomicU64::new(0),
            seed,
            mix: Mix::of(seed),
            jars: (0..BROWSERS).map(|_| Mutex::default()).collect(),
            events: Mutex::default(),
        })
    }

    fn now(&self) -> Moment {
        Moment::try_from(self.began.elapsed().as_micros()).expect("not that long")
    }

    fn user(&self, browser: usize) -> String {
        let name = if browser + 1 == BROWSERS {
            "bob"
        } else {
            "ada"
        };
        format!("{name}-{}", self.seed)
    }

    /// Sends a request, and notes what came of it. `true` if it was answered.
    async fn send(
        &self,
        browser: usize,
        (kind, user): (Kind, String),
        old: Option<String>,
        (instance, pause): (usize, u64),
    ) -> bool {
        let address = {
            let addresses = locked(&self.addresses);
            addresses[instance % addresses.len()].clone()
        };
        let (ask, jar) = (
            Ask {
                id: 1 + self.number.fetch_add(1, Ordering::Relaxed),
                user,
                pause,
            },
            &self.jars[browser],
        );
        let path = serde_json::to_value(kind).expect("a name");
        let path = path.as_str().expect("a name");
        let app = match self.mix {
            Mix::Limited => "limited",
            Mix::Plain | Mix::Shared => "h",
        };
        let url = format!(
            "http://{address}/{app}/{path}?id={}&user={}&pause={pause}",
            ask.id, ask.user
        );
        let cookie = old.clone().or_else(|| locked(jar).cookie.clone());
        let mut request = self.client.post(url).timeout(Duration::from_secs(20));
        if let Some(cookie) = &cookie {
            request = request.header(COOKIE, cookie);
        }
        let start = self.now();
        let answer = request.send().await;
        let (mut told, mut set) = (None, None);
        if let Ok(answer) = answer {
            let header = answer
                .headers()
                .get(SET_COOKIE)
                .and_then(|set| set.to_str().ok());
            let header = header.map(str::to_owned);
            let is_good = answer.status().is_success();
            let body = answer.bytes().await.ok();
            // Of an answer that was cut off, nobody knows what its headers are worth.
            if let Some(body) = body {
                told =
                    is_good.then(|| serde_json::from_slice::<Told>(&body).expect("what it says"));
                set = header;
            }
        }
        let end = self.now();
        let issued = set.as_ref().filter(|set| !set.contains("Max-Age=0"));
        let issued = issued
            .and_then(|set| set.split(';').next())
            .map(str::to_owned);
        if set.is_some() && old.is_none() {
            let mut jar = locked(jar);
            let before = mem::replace(&mut jar.cookie, issued.clone());
            jar.past.extend(before);
        }
        let answered = told.is_some();
        locked(&self.events).push(Event {
            kind,
            id: ask.id,
            user: ask.user,
            presented: cookie.as_deref().map(id),
            start,
            end,
            told,
            set: issued.as_deref().map(id),
        });
        answered
    }

    async fn tab(self: Arc<Self>, browser: usize, mut dice: Dice) {
        for _ in 0..REQUESTS {
            let (instance, pause) = (dice.below(2), [0, 1, 2, 8][dice.below(4)]);
            let old = {
                // The latest more often than others: somebody may have brought its session back.
                let past = &locked(&self.jars[browser]).past;
                let first = past.len().saturating_sub(1) * dice.below(2);
                let old = past.get(first..).filter(|old| !old.is_empty());
                old.filter(|_| dice.below(5) == 0)
                    .map(|old| old[dice.below(old.len())].clone())
            };
            let kind = match &old {
                Some(_) => GHOSTS[dice.below(GHOSTS.len())],
                None => dice.kind(),
            };
            let user = match self.mix {
                Mix::Shared => dice.below(BROWSERS),
                Mix::Plain | Mix::Limited => browser,
            };
            let what = (kind, self.user(user));
            if !self.send(browser, what, old, (instance, pause)).await {
                // A server that is starting refuses at once, and somebody is to be there when it is up.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Has all tabs send their requests.
    pub(super) async fn run(self: &Arc<Self>) {
        let mut tabs = JoinSet::new();
        for tab in 0..BROWSERS * TABS {
            let dice = Dice::new(self.seed.wrapping_mul(1_000).wrapping_add(tab as u64));
            tabs.spawn(Arc::clone(self).tab(tab % BROWSERS, dice));
        }
        tabs.join_all().await;
    }

    /// All log in and look, when everything is well again. Returns what has happened, in order.
    pub(super) async fn end(&self) -> Vec<Event> {
        for kind in [Kind::Login, Kind::Read, Kind::Read] {
            self.all(kind, 0..BROWSERS).await;
        }
        let mut events = mem::take(&mut *locked(&self.events));
        events.sort_by_key(|event| event.start);
        events
    }

    /// Both users are deleted; then all look, and log in. Returns what they are told.
    pub(super) async fn delete(&self) -> Vec<Event> {
        self.all(Kind::Delete, BROWSERS - 2..BROWSERS).await;
        self.all(Kind::Read, 0..BROWSERS).await;
        self.all(Kind::Login, 0..BROWSERS).await;
        mem::take(&mut *locked(&self.events))
    }

    async fn all(&self, kind: Kind, browsers: Range<usize>) {
        for browser in browsers {
            wait_for("an answer", async || {
                let what = (kind, self.user(browser));
                self.send(browser, what, None, (browser, 0)).await
            })
            .await;
        }
    }
}
