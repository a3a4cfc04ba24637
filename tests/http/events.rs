//! What happens to sessions, as the app is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Ended, Error, Event, EventKind, Key, Session, SessionLayer, UserId};
use session_tests::{Fault, FaultStore, Reply, Site, Visitor, on_each_store};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Session)]
struct Shop {
    theme: String,
    #[merge(append)]
    seen: Vec<u32>,
}

/// What an app was told.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<Event>>>);

impl Heard {
    /// The layer that tells it.
    fn by(&self, layer: SessionLayer) -> SessionLayer {
        let heard = Arc::clone(&self.0);
        layer.on_event(move |event| {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(event);
        })
    }

    /// Takes what was told since it was last asked.
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, without the times.
    fn told(&self) -> Vec<(EventKind, Key, Option<UserId>)> {
        let events = self.take().into_iter();
        events
            .map(|event| (event.kind, event.session, event.user))
            .collect()
    }
}

async fn gather(visitor: &mut Visitor, number: u32) -> Reply {
    let handler = async move |mut session: Session<Shop>| session.seen.get_mut().push(number);
    visitor.visit(handler).await
}

async fn login(visitor: &mut Visitor, user: &str) -> Reply {
    let user = UserId::from(user);
    let handler = async move |mut session: Session<Shop>| session.login(user).await;
    visitor.visit(handler).await
}

async fn logout(mut session: Session<Shop>) -> Result<(), Error> {
    session.logout().await
}

async fn rotate(mut session: Session<Shop>) -> Result<(), Error> {
    session.rotate().await
}

async fn delete(mut session: Session<Shop>) -> Result<(), Error> {
    session.delete("done").await
}

async fn paint(mut session: Session<Shop>) {
    session.theme.get_mut().push('.');
}

on_each_store!(
    the_life_of_a_session_is_told_in_order,
    of_a_guest_who_logs_in_in_two_tabs_each_merge_is_told_once,
    what_a_late_request_brings_is_told_when_it_is_credited,
    a_session_that_a_login_finds_expired_is_told_once,
    a_listener_that_panics_harms_nobody,
);

/// Runs a test on each store that is swept: not on one whose engine drops by itself what has expired.
macro_rules! on_each_swept_store {
    ($($test:ident),* $(,)?) => {
        mod swept_in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Site::in_memory()).await;
            })*
        }

        mod swept_in_a_file {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Site::in_a_file()).await;
            })*
        }

        mod swept_on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = super::Site::on_postgres().await {
                    super::$test(site).await;
                }
            })*
        }

        mod swept_on_mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(site) = super::Site::on_mysql().await {
                    super::$test(site).await;
                }
            })*
        }
    };
}

on_each_swept_store!(
    what_has_expired_is_told_when_it_is_swept,
    every_clone_of_a_layer_is_told_what_has_expired,
    a_listener_that_panics_does_not_end_the_sweeping,
);

async fn the_life_of_a_session_is_told_in_order(site: Site) {
    let heard = Heard::default();
    let site = site.with(|layer| heard.by(layer));
    let ada = || Some(UserId::from("ada"));
    let mut visitor = site.visitor();
    visitor.visit(async |_: Session<Shop>| ()).await;
    assert!(heard.take().is_empty(), "nothing was written");

    gather(&mut visitor, 1).await;
    let guest = visitor.key();
    let created = heard.take();
    assert_eq!(
        created,
        [expected(EventKind::Created, &guest, None, site.now())]
    );
    gather(&mut visitor, 2).await;
    assert!(heard.take().is_empty(), "it is there already");

    login(&mut visitor, "ada").await;
    let session = visitor.key();
    assert_eq!(session, guest, "it is the same session still");
    assert_eq!(heard.told(), [(EventKind::Merged, guest, ada())]);

    visitor.visit(rotate).await;
    login(&mut visitor, "ada").await;
    assert_eq!(visitor.key(), session);
    assert!(heard.take().is_empty(), "another id is no other session");

    let mut newcomer = site.visitor();
    login(&mut newcomer, "bob").await;
    let bob = || Some(UserId::from("bob"));
    let first = newcomer.key();
    assert_eq!(heard.told(), [(EventKind::Created, first.clone(), bob())]);
    login(&mut newcomer, "ada").await;
    assert_ne!(newcomer.key(), first);
    assert_eq!(
        heard.told(),
        [
            (EventKind::Created, newcomer.key(), ada()),
            (EventKind::Ended(Ended::LoggedIn), first, bob()),
        ]
    );
    newcomer.visit(logout).await;
    heard.take();

    let session = visitor.key();
    let mut tab = visitor.clone();
    visitor.visit(logout).await;
    tab.visit(logout).await;
    let ended = |reason, session: &Key, user| (EventKind::Ended(reason), session.clone(), user);
    assert_eq!(heard.told(), [ended(Ended::LoggedOut, &session, ada())]);

    // A guest who has nothing that follows the user: nothing is merged.
    let mut plain = site.visitor();
    plain.visit(paint).await;
    login(&mut plain, "ada").await;
    let told = heard.told();
    assert!(
        !told.iter().any(|(kind, ..)| *kind == EventKind::Merged),
        "{told:?}"
    );

    let sessions = site.layer.sessions();
    let session = plain.key();
    sessions.revoke_all("ada").await.unwrap();
    sessions.revoke_all("ada").await.unwrap();
    assert_eq!(heard.told(), [ended(Ended::Revoked, &session, ada())]);

    login(&mut plain, "ada").await;
    heard.take();
    let session = plain.key();
    sessions.delete("ada").await.unwrap();
    assert_eq!(
        heard.told(),
        [ended(Ended::Revoked, &session, ada())],
        "what follows a user is no session"
    );

    let mut one = site.visitor();
    gather(&mut one, 1).await;
    heard.take();
    let session = one.key();
    one.visit(delete).await;
    let reason = Ended::Deleted("done".to_owned());
    assert_eq!(heard.told(), [ended(reason, &session, None)]);
}

async fn of_a_guest_who_logs_in_in_two_tabs_each_merge_is_told_once(site: Site) {
    let heard = Heard::default();
    let site = site.with(|layer| heard.by(layer));
    for (round, brings) in [false, true].into_iter().cycle().take(20).enumerate() {
        let user = || UserId::from(round as u64);
        let mut guest = site.visitor();
        gather(&mut guest, 1).await;
        heard.take();
        let (barrier, mut tabs) = (Arc::new(Barrier::new(2)), JoinSet::new());
        for number in 2..=3 {
            let (mut tab, barrier, user) = (guest.clone(), Arc::clone(&barrier), user());
            tabs.spawn(async move {
                let handler = async move |mut session: Session<Shop>| {
                    if brings {
                        session.seen.get_mut().push(number);
                    }
                    barrier.wait().await;
                    session.login(user).await
                };
                assert_eq!(tab.visit(handler).await.status, StatusCode::OK);
            });
        }
        tabs.join_all().await;
        // The first brings what there was, the second what it has added to that; unless one credits both.
        let merged = (EventKind::Merged, guest.key(), Some(user()));
        let told = heard.told();
        assert!(told.iter().all(|event| *event == merged), "{told:?}");
        let most = if brings { 2 } else { 1 };
        assert!((1..=most).contains(&told.len()), "{told:?}");
    }
}

async fn what_a_late_request_brings_is_told_when_it_is_credited(site: Site) {
    let heard = Heard::default();
    let site = site.with(|layer| heard.by(layer));
    let mut visitor = site.visitor();
    visitor.visit(paint).await;
    heard.take();
    let (mut tab, told) = (visitor.clone(), heard.clone());
    let late = async move |mut session: Session<Shop>| {
        session.seen.get_mut().push(1);
        login(&mut tab, "ada").await;
        assert!(told.take().is_empty(), "nothing was there to be merged");
        tab
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let handler = async move |session: Session<Shop>| {
        let tab = late(session).await;
        let sender = sender.lock().unwrap().take();
        drop(sender.unwrap().send(tab));
    };
    visitor.visit(handler).await;
    assert!(heard.take().is_empty(), "it is set apart");
    let mut tab = receiver.await.unwrap();
    let seen = async |session: Session<Shop>| format!("{:?}", session.seen.get());
    assert_eq!(tab.visit(seen).await.body, "[1]");
    let merged = (EventKind::Merged, tab.key(), Some("ada".into()));
    assert_eq!(heard.told(), [merged]);
    assert_eq!(tab.visit(seen).await.body, "[1]");
    assert!(heard.take().is_empty());
}

async fn a_session_that_a_login_finds_expired_is_told_once(site: Site) {
    let heard = Heard::default();
    let site = site.with(|layer| heard.by(layer));
    let mut visitor = site.visitor();
    login(&mut visitor, "ada").await;
    let session = visitor.key();
    site.clock.advance(3 * HOUR);
    heard.take();
    let mut other = site.visitor();
    login(&mut other, "ada").await;
    let ada = Some(UserId::from("ada"));
    let ended = EventKind::Ended(Ended::Expired);
    let expected = [
        (ended, session, ada.clone()),
        (EventKind::Created, other.key(), ada),
    ];
    assert_eq!(heard.told(), expected);
    let swept = site.store.inner().sweep(10).await.unwrap();
    assert!(swept.expired.is_empty(), "the tombstone is no session");
}

fn expected(
    kind: EventKind,
    session: &Key,
    user: Option<UserId>,
    at: session_runtime::Timestamp,
) -> ExpectedEvent {
    ExpectedEvent(kind, session.clone(), user, at)
}

/// An event to compare with: no other crate can make one.
#[derive(Debug)]
struct ExpectedEvent(EventKind, Key, Option<UserId>, session_runtime::Timestamp);

impl PartialEq<ExpectedEvent> for Event {
    fn eq(&self, other: &ExpectedEvent) -> bool {
        let ExpectedEvent(kind, session, user, at) = other;
        self.kind == *kind && self.session == *session && self.user == *user && self.at == *at
    }
}

async fn what_has_expired_is_told_when_it_is_swept(site: Site) {
    let heard = Heard::default();
    let often = |layer: SessionLayer| heard.by(layer.sweep_every(Some(10 * MS)));
    let other = often(site.other_process());
    let site = site.with(often);
    let (mut guest, mut user) = (site.visitor(), Visitor::of(other));
    gather(&mut guest, 1).await;
    login(&mut user, "ada").await;
    user.visit(rotate).await;
    let keys = [guest.key(), user.key()];
    let mut left = site.visitor();
    gather(&mut left, 1).await;
    left.visit(delete).await; // leaves a tombstone, which is none either
    heard.take();

    tokio::time::sleep(50 * MS).await;
    assert!(heard.take().is_empty(), "nothing has expired");
    site.clock.advance(40 * DAY);
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        tokio::time::sleep(MS).await;
        for (kind, key, user) in heard.told() {
            assert_eq!(kind, EventKind::Ended(Ended::Expired));
            assert!(told.insert(key, user).is_none(), "told twice");
        }
    }
    let [of_guest, of_user] = keys;
    assert_eq!(
        told,
        [(of_guest, None), (of_user, Some("ada".into()))].into()
    );
    tokio::time::sleep(100 * MS).await;
    assert!(heard.take().is_empty());
}

async fn every_clone_of_a_layer_is_told_what_has_expired(site: Site) {
    let [replaced, one, other] = [(); 3].map(|()| Heard::default());
    let layer = replaced.by(site.layer.clone().sweep_every(Some(10 * MS)));
    let layer = one.by(layer);
    let clone = other.by(layer.clone());
    let mut visitor = Visitor::of(layer); // it begins to sweep
    gather(&mut visitor, 1).await;
    let created = vec![(EventKind::Created, visitor.key(), None)];
    assert_eq!((one.told(), other.told()), (created, Vec::new()));
    Visitor::of(clone.clone()).visit(async || ()).await;

    site.clock.advance(40 * DAY);
    let expired = vec![(EventKind::Ended(Ended::Expired), visitor.key(), None)];
    let mut told = Vec::new();
    while told.is_empty() {
        tokio::time::sleep(MS).await;
        told = one.told();
    }
    tokio::time::sleep(100 * MS).await;
    assert_eq!((told, other.told()), (expired.clone(), expired));
    assert!(one.take().is_empty() && replaced.take().is_empty());
}

/// A site whose listener counts and panics.
fn panicking(site: Site) -> (Site, Arc<AtomicUsize>) {
    let told = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&told);
    let site = site.with(|layer| {
        layer.sweep_every(Some(10 * MS)).on_event(move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
            panic!("planned: the listener");
        })
    });
    (site, told)
}

async fn a_listener_that_panics_harms_nobody(site: Site) {
    let (site, told) = panicking(site);
    let mut visitor = site.visitor();
    assert_eq!(gather(&mut visitor, 1).await.status, StatusCode::OK);
    assert_eq!(login(&mut visitor, "ada").await.status, StatusCode::OK);
    assert_eq!(visitor.visit(rotate).await.status, StatusCode::OK);
    let seen = async |session: Session<Shop>| format!("{:?}", session.seen.get());
    assert_eq!(visitor.visit(seen).await.body, "[1]");
    let late = async |mut session: Session<Shop>| {
        session.seen.get_mut().push(2);
        session.logout().await.unwrap();
        session.theme.set("plain".to_owned());
    };
    assert_eq!(visitor.visit(late).await.status, StatusCode::OK);
    assert_eq!(login(&mut visitor, "ada").await.status, StatusCode::OK);
    assert_eq!(visitor.visit(seen).await.body, "[1, 2]");
    let sessions = site.layer.sessions();
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(told.load(Ordering::SeqCst), 5); // created, merged, logged out, created, revoked
}

async fn a_listener_that_panics_does_not_end_the_sweeping(site: Site) {
    let (site, told) = panicking(site);
    let mut visitor = site.visitor();
    for told_before in [0, 2, 4] {
        assert_eq!(gather(&mut visitor, 1).await.status, StatusCode::OK);
        assert_eq!(told.load(Ordering::SeqCst), told_before + 1);
        site.clock.advance(3 * HOUR);
        while told.load(Ordering::SeqCst) < told_before + 2 {
            tokio::time::sleep(MS).await;
        }
    }
}

/// Numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// Two processes on one store, and what they tell.
struct Run {
    random: Random,
    heard: Heard,
    site: Site,
    layers: [SessionLayer; 2],
    browsers: Vec<Visitor>,
    /// Which guest's session a number was put into.
    guests: HashMap<u32, Key>,
    next: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let heard = Heard::default();
        let rarely = |layer: SessionLayer| heard.by(layer.sweep_every(Some(DAY)));
        let site = Site::in_memory();
        let layers = [rarely(site.other_process()), rarely(site.other_process())];
        let browsers = vec![Visitor::of(layers[0].clone()); 4];
        Self {
            random: Random(seed),
            heard,
            site,
            layers,
            browsers,
            guests: HashMap::new(),
            next: 0,
        }
    }

    /// One call of the store fails in the next request, before or after its effect.
    fn plan_fault(&mut self) {
        self.site.store.heal();
        if self.random.below(3) > 0 {
            let calls = self.random.index(10);
            let fault = [Fault::Before, Fault::After][self.random.index(2)];
            self.site.store.plan_after(calls, [fault]);
        }
    }

    fn store(&self) -> &FaultStore {
        &self.site.store
    }

    /// A browser that sends its next request to either process.
    fn browser(&mut self) -> (usize, Visitor) {
        let (browser, layer) = (self.random.index(4), self.random.index(2));
        let visitor = self.browsers[browser].moved_to(&self.layers[layer]);
        (browser, visitor)
    }

    async fn step(&mut self) {
        let name = ["ada", "bob"][self.random.index(2)];
        let sessions = self.layers[self.random.index(2)].sessions();
        let (browser, mut visitor) = self.browser();
        self.plan_fault();
        match self.random.below(20) {
            0..=6 => {
                self.next += 1;
                let number = self.next;
                let handler = async move |mut session: Session<Shop>| {
                    session.seen.get_mut().push(number);
                    session.user().is_some().to_string()
                };
                let reply = visitor.visit(handler).await;
                if reply.body == "false" && !visitor.id().is_empty() {
                    self.guests.insert(number, visitor.key());
                }
            }
            7..=10 => drop(login(&mut visitor, name).await),
            11..=12 => self.twice(&mut visitor, name).await,
            13 => drop(visitor.visit(logout).await),
            14 => drop(visitor.visit(delete).await),
            15 => {
                let user = async |mut session: Session<Shop>| match session.user() {
                    Some(_) => session.rotate().await,
                    None => Ok(()),
                };
                drop(visitor.visit(user).await);
            }
            16 => drop(sessions.revoke_all(name).await),
            17 => {
                if let Ok(devices) = sessions.list(name).await
                    && let Some(device) = devices.first()
                {
                    drop(sessions.revoke(name, device.id()).await);
                }
            }
            18 => self.site.clock.advance(11 * MINUTE),
            _ => self.site.clock.advance(3 * HOUR),
        }
        self.browsers[browser] = visitor;
        self.store().heal();
    }

    /// Two tabs log in, or out, at once.
    async fn twice(&mut self, visitor: &mut Visitor, name: &str) {
        let mut tabs = JoinSet::new();
        let out = self.random.below(3) == 0;
        for layer in self.layers.clone() {
            let (mut tab, name) = (visitor.moved_to(&layer), name.to_owned());
            tabs.spawn(async move {
                if out {
                    tab.visit(logout).await;
                } else {
                    login(&mut tab, &name).await;
                }
                tab
            });
        }
        if let Some(tab) = tabs.join_all().await.pop() {
            *visitor = tab;
        }
    }

    /// Guests whose numbers have come to be a user's.
    async fn merged(&self) -> BTreeSet<Key> {
        let mut merged = BTreeSet::new();
        for name in ["ada", "bob"] {
            let record = self.store().inner().load(&Key::User(name.into())).await;
            let record = record.unwrap();
            let Some(slot) = record.as_ref().and_then(|record| record.slot("seen")) else {
                continue;
            };
            let seen: Vec<u32> = serde_json::from_slice(slot.payload()).unwrap();
            let unique: BTreeSet<_> = seen.iter().collect();
            assert_eq!(unique.len(), seen.len(), "credited twice: {seen:?}");
            merged.extend(
                seen.iter()
                    .filter_map(|number| self.guests.get(number))
                    .cloned(),
            );
        }
        merged
    }

    /// Everything expires and is swept, by both. What has begun has ended once.
    async fn check(mut self, seed: u64) {
        self.site.clock.advance(3 * HOUR);
        for layer in self.layers.clone() {
            Visitor::of(layer).visit(async || ()).await; // begins to sweep, if it has not
        }
        tokio::time::sleep(3 * DAY).await;
        let (mut begun, mut ended, mut merged) = (Vec::new(), Vec::new(), Vec::new());
        for event in self.heard.take() {
            match event.kind {
                EventKind::Created => begun.push(event.session),
                EventKind::Ended(_) => ended.push(event.session),
                EventKind::Merged => merged.push(event.session),
                other => panic!("{other:?}"),
            }
        }
        let once = |keys: &[Key]| keys.iter().cloned().collect::<BTreeSet<_>>();
        for keys in [&begun, &ended, &merged] {
            assert_eq!(once(keys).len(), keys.len(), "seed {seed}: told twice");
        }
        assert_eq!(begun.len(), ended.len(), "seed {seed}");
        assert_eq!(once(&merged), self.merged().await, "seed {seed}");
        self.browsers.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_is_told_exactly_once_whatever_fails_or_races() {
    for seed in 0..150 {
        let mut run = Run::new(seed);
        for _ in 0..40 {
            run.step().await;
        }
        run.check(seed).await;
    }
}
