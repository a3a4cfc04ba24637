//! How a session gets another id without ending, and which ids open it then.

#![allow(clippy::unchecked_time_subtraction)] // a test that subtracts too much has failed

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{MethodRouter, any};
use http::StatusCode;
use session_runtime::testing::TestClock;
use session_runtime::{Saved, Session, SessionLayer};
use session_tests::customers::quietly;
use session_tests::{
    Choices, Handles, HeldSite, Site, Visitor, in_each_order, on_a_cache, on_each_store, times,
};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

use super::endings::{Desk, ada, delete, login, logout, owner, rotate, sit, stamp, stamps, why};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How many ids may wait to be presented.
const WAITING: usize = 4;

/// Rotates the session of which the visitor has an id. The answer is on its way.
async fn rotated(visitor: &Visitor) -> Visitor {
    let mut answer = visitor.clone();
    assert_eq!(answer.visit(rotate).await.set_cookies().len(), 1);
    assert_ne!(answer.id(), visitor.id());
    answer
}

/// Rotates, to no avail.
async fn rotates_in_vain(visitor: &Visitor) {
    let id = visitor.id();
    let tries = async move |mut session: Session<Desk>| {
        session.rotate().await.unwrap();
        assert_eq!(session.id().unwrap().expose(), id);
    };
    quietly(&mut visitor.clone(), tries).await;
}

async fn opens(visitor: &Visitor) {
    assert_eq!(quietly(&mut visitor.clone(), owner).await, "Ada");
}

async fn opens_nothing(visitor: &Visitor) {
    assert_eq!(quietly(&mut visitor.clone(), why).await, "Some(Expired)");
}

on_each_store!(
    rotating_gives_a_new_id_and_keeps_all_else,
    an_old_id_is_good_until_the_new_one_is_presented_and_a_minute_more,
    a_lost_answer_costs_nothing_whatever_other_requests_are_under_way,
    rotating_again_leaves_the_first_id_no_longer_good_than_its_minute,
    rotating_twice_in_one_request_issues_one_id,
    while_four_ids_wait_to_be_presented_none_is_issued,
    an_id_that_nobody_has_presented_does_not_fall_by_time_alone,
    of_32_rotations_at_once_every_id_that_is_issued_opens_the_session,
    requests_in_flight_around_a_rotation_lose_no_write_and_no_session,
    a_request_that_was_served_by_an_id_whose_time_is_over_goes_on,
    clocks_that_are_thirty_seconds_apart_cost_nobody_the_session,
);

on_a_cache!(
    an_old_id_is_good_until_the_new_one_is_presented_and_a_minute_more,
    a_lost_answer_costs_nothing_whatever_other_requests_are_under_way,
    of_32_rotations_at_once_every_id_that_is_issued_opens_the_session,
    requests_in_flight_around_a_rotation_lose_no_write_and_no_session,
);

async fn rotating_gives_a_new_id_and_keeps_all_else(site: Site) {
    let mut visitor = ada(&site).await;
    let old = visitor.clone();
    site.clock.advance(SECOND);
    for changes in [false, true] {
        site.store.round_trips();
        let both = async move |mut session: Session<Desk>| {
            let (created, updated) = (session.created_at(), session.updated_at());
            if changes {
                session.stamps.set(3);
            }
            session.rotate().await.unwrap();
            assert_eq!(session.created_at(), created);
            assert_eq!(session.updated_at() > updated, changes);
            session.id().unwrap().expose().to_owned()
        };
        let (before, key) = (site.record(&visitor).await.unwrap(), visitor.key());
        let reply = visitor.visit(both).await;
        assert_eq!(
            site.store.round_trips(),
            (1, 1),
            "a change goes along in the same swap"
        );
        assert_eq!(reply.set_cookies().len(), 1);
        assert_eq!(reply.body, visitor.id());
        assert_ne!(visitor.id(), old.id());
        assert_eq!(visitor.key(), key, "the record stays where it is");
        let after = site.record(&visitor).await.unwrap();
        assert_eq!(after.updated() > before.updated(), changes);
        assert_eq!(after.expires(), before.expires());
    }
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
    assert_eq!(quietly(&mut visitor, stamps).await, "3");
}

async fn an_old_id_is_good_until_the_new_one_is_presented_and_a_minute_more(site: Site) {
    let old = ada(&site).await;
    let new = rotated(&old).await;
    for _ in 0..24 {
        site.clock.advance(HOUR);
        opens(&old).await;
    }
    opens(&new).await;
    site.clock.advance(30 * SECOND);
    opens(&new).await; // once more, which begins nothing anew
    site.clock.advance(30 * SECOND - MS);
    opens(&old).await;
    site.clock.advance(MS);
    opens_nothing(&old).await;
    opens(&new).await;
}

async fn a_lost_answer_costs_nothing_whatever_other_requests_are_under_way(site: Site) {
    #[derive(Clone, Copy, Debug)]
    enum Other {
        None,
        Reads,
        Writes,
        Conflicts,
        Saves,
        Refreshes,
        Rotates,
    }
    use Other::{Conflicts, None, Reads, Refreshes, Rotates, Saves, Writes};
    for other in [None, Reads, Writes, Conflicts, Saves, Refreshes, Rotates] {
        let mut visitor = ada(&site).await;
        let (lost, mut tab) = (visitor.clone(), visitor.clone());
        let under_way = async move |mut session: Session<Desk>| {
            if matches!(other, Conflicts) {
                tab.visit(stamp).await;
            }
            rotated(&lost).await;
            match other {
                None | Reads => {}
                Writes | Conflicts => *session.stamps.get_mut() += 1,
                Saves => {
                    *session.stamps.get_mut() += 1;
                    assert_eq!(session.save().await.unwrap(), Saved::Written);
                }
                Refreshes => {
                    session.refresh().await.unwrap();
                    *session.stamps.get_mut() += 1;
                }
                Rotates => session.rotate().await.unwrap(),
            }
        };
        if matches!(other, None) {
            rotated(&visitor).await;
        } else {
            let cookies = visitor.clone().visit(under_way).await.set_cookies().len();
            assert_eq!(cookies, usize::from(matches!(other, Rotates))); // lost as well
        }
        let before: u32 = quietly(&mut visitor, stamps).await.parse().unwrap();
        let expected = match other {
            None | Reads | Rotates => 0,
            Writes | Saves | Refreshes => 1,
            Conflicts => 2,
        };
        assert_eq!(before, expected, "{other:?}");
        for count in 1..=3 {
            quietly(&mut visitor, stamp).await;
            site.clock.advance(HOUR);
            let counted = quietly(&mut visitor, stamps).await;
            assert_eq!(counted, (before + count).to_string(), "{other:?}");
        }
        // The next rotation gets through.
        let new = rotated(&visitor).await;
        opens(&new).await;
        site.clock.advance(MINUTE);
        opens(&new).await;
        opens_nothing(&visitor).await;
    }
}

async fn rotating_again_leaves_the_first_id_no_longer_good_than_its_minute(site: Site) {
    let first = ada(&site).await;
    let second = rotated(&first).await;
    let third = rotated(&second).await; // this presents the second
    site.clock.advance(MINUTE - MS);
    opens(&first).await;
    site.clock.advance(MS);
    opens_nothing(&first).await;
    site.clock.advance(HOUR);
    opens(&second).await; // the third was never presented
    opens(&third).await;
    site.clock.advance(MINUTE - MS);
    opens(&second).await;
    site.clock.advance(MS);
    opens_nothing(&second).await;
    opens(&third).await;
}

async fn rotating_twice_in_one_request_issues_one_id(site: Site) {
    let mut visitor = ada(&site).await;
    let old = visitor.clone();
    let twice = async |mut session: Session<Desk>| {
        session.rotate().await.unwrap();
        let first = session.id();
        session.rotate().await.unwrap();
        assert_eq!(session.id(), first, "an id on its way is as new as any");
        session.stamps.set(2);
        session.id().unwrap().expose().to_owned()
    };
    site.store.round_trips();
    let reply = visitor.visit(twice).await;
    assert_eq!(site.store.round_trips(), (1, 2));
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!(reply.body, visitor.id());
    for visitor in [&old, &visitor] {
        assert_eq!(quietly(&mut visitor.clone(), stamps).await, "2");
    }
    site.clock.advance(MINUTE);
    opens_nothing(&old).await;
    opens(&visitor).await;
}

async fn while_four_ids_wait_to_be_presented_none_is_issued(site: Site) {
    let visitor = ada(&site).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(rotated(&visitor).await);
    }
    rotates_in_vain(&visitor).await;
    // What the request changes is written all the same.
    let changes = async |mut session: Session<Desk>| {
        session.stamps.set(5);
        session.rotate().await.unwrap();
        *session.stamps.get_mut() += 1;
    };
    quietly(&mut visitor.clone(), changes).await;
    assert_eq!(quietly(&mut visitor.clone(), stamps).await, "6");
    for id in &waiting {
        opens(id).await;
    }
    // They have been presented: the next are issued.
    let again = rotated(&waiting[1]).await;
    opens(&again).await;

    // One that has waited for an hour falls when there is another rotation.
    let visitor = ada(&site).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(rotated(&visitor).await);
    }
    site.clock.advance(HOUR - MS);
    rotates_in_vain(&visitor).await;
    site.clock.advance(MS);
    let new = rotated(&visitor).await;
    for id in &waiting {
        opens_nothing(id).await;
    }
    opens(&new).await;
}

async fn an_id_that_nobody_has_presented_does_not_fall_by_time_alone(site: Site) {
    let longer = async |mut session: Session<Desk>| session.set_ttl(240 * HOUR);
    let mut old = ada(&site).await;
    old.visit(longer).await;
    let new = rotated(&old).await;
    site.clock.advance(239 * HOUR);
    opens(&new).await;
    opens(&old).await;
    site.clock.advance(MINUTE);
    opens_nothing(&old).await;
    opens(&new).await;
}

/// Rotates in 32 requests at once, each of which has loaded the session before any of them begins. Returns the answers
/// that bring an id.
async fn at_once(visitor: &Visitor) -> Vec<Visitor> {
    let loaded = Arc::new(Barrier::new(32));
    let mut requests = JoinSet::new();
    for _ in 0..32 {
        let (mut tab, loaded) = (visitor.clone(), Arc::clone(&loaded));
        let rotates = async move |mut session: Session<Desk>| {
            assert!(!session.is_new());
            loaded.wait().await;
            session.rotate().await
        };
        requests.spawn(async move {
            let reply = tab.visit(rotates).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
            (!reply.set_cookies().is_empty()).then_some(tab)
        });
    }
    let answers = requests.join_all().await;
    answers.into_iter().flatten().collect()
}

async fn of_32_rotations_at_once_every_id_that_is_issued_opens_the_session(site: Site) {
    let mut random = Random(1);
    for arrive in 0..=WAITING {
        let first = ada(&site).await;
        let mut on_their_way = at_once(&first).await;
        assert_eq!(on_their_way.len(), WAITING);
        let ids: BTreeSet<_> = on_their_way.iter().map(Visitor::id).collect();
        assert_eq!(ids.len(), WAITING);
        // So many answers arrive, one after the other, in any order; the others are lost.
        let mut browser = first;
        for _ in 0..arrive {
            let next = random.below(on_their_way.len());
            browser = on_their_way.swap_remove(next);
            opens(&browser).await;
            site.clock.advance(2 * MINUTE);
        }
        site.clock.advance(HOUR);
        opens(&browser).await;
    }
}

async fn requests_in_flight_around_a_rotation_lose_no_write_and_no_session(site: Site) {
    const TABS: usize = 32;
    let mut visitor = ada(&site).await;
    for round in 1..=10 {
        // Half of them have loaded before the rotation and commit after it; the others come as they may.
        let waiting = Arc::new(Barrier::new(TABS / 2 + 1));
        let tabs = (0..TABS).map(|tab| {
            let (mut visitor, waiting) = (visitor.clone(), Arc::clone(&waiting));
            let count = async move |mut session: Session<Desk>| {
                assert!(!session.is_new());
                if tab % 2 == 0 {
                    waiting.wait().await; // for the rotation to begin
                    waiting.wait().await; // for it to end
                }
                *session.stamps.get_mut() += 1;
            };
            tokio::spawn(async move { quietly(&mut visitor, count).await })
        });
        let tabs: Vec<_> = tabs.collect();
        waiting.wait().await;
        assert_eq!(visitor.visit(rotate).await.set_cookies().len(), 1);
        waiting.wait().await;
        for tab in tabs {
            tab.await.unwrap();
        }
        assert_eq!(
            quietly(&mut visitor, stamps).await,
            (round * TABS).to_string()
        );
    }
}

async fn a_request_that_was_served_by_an_id_whose_time_is_over_goes_on(site: Site) {
    let closed = r#"Some(Deleted("closed"))"#;
    for does in ["write", "save", "refresh", "rotate", "delete"] {
        let old = ada(&site).await;
        let new = rotated(&old).await;
        let (clock, tab) = (site.clock.clone(), new.clone());
        let slow = async move |mut session: Session<Desk>| {
            opens(&tab).await;
            clock.advance(2 * MINUTE);
            *session.stamps.get_mut() += 1;
            match does {
                "save" => assert_eq!(session.save().await.unwrap(), Saved::Written),
                "refresh" => session.refresh().await.unwrap(),
                "rotate" => session.rotate().await.unwrap(),
                "delete" => session.delete("closed").await.unwrap(),
                _ => {}
            }
        };
        let mut tab = old.clone();
        let reply = tab.visit(slow).await;
        assert_eq!(reply.status, StatusCode::OK, "{does}");
        if does == "delete" {
            assert_eq!(tab.id(), "", "the cookie is removed");
            assert_eq!(quietly(&mut new.clone(), why).await, closed);
            continue;
        }
        assert!(reply.set_cookies().is_empty(), "{does}");
        opens_nothing(&old).await;
        assert_eq!(quietly(&mut new.clone(), stamps).await, "1", "{does}");
    }
}

/// Numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn seconds(&mut self, most: usize) -> Duration {
        SECOND * u32::try_from(self.below(most + 1)).unwrap()
    }
}

/// The layers of two instances on one store, and their clocks: the second is half a minute ahead.
fn instances(site: &Site) -> ([SessionLayer; 2], [TestClock; 2]) {
    let ahead = TestClock::new();
    ahead.step_forward(30 * SECOND);
    let other = site.other_process().clock(ahead.clone());
    ([site.layer.clone(), other], [site.clock.clone(), ahead])
}

async fn clocks_that_are_thirty_seconds_apart_cost_nobody_the_session(site: Site) {
    let (layers, clocks) = instances(&site);
    let mut random = Random(7);
    let passes = |time| clocks.iter().for_each(|clock| clock.advance(time));
    let mut browser = ada(&site).await;
    for round in 1..=60 {
        // A request of a page that is being left goes on under the id of before, up to half a minute.
        let before = browser.clone();
        let mut somewhere = || layers[random.below(2)].clone();
        let lost = round % 3 == 0;
        let issued = rotated(&browser.moved_to(&somewhere())).await;
        if !lost {
            browser = issued;
        }
        opens(&browser.moved_to(&somewhere())).await;
        let late = random.seconds(29);
        passes(late);
        let mut somewhere = || layers[random.below(2)].clone();
        quietly(&mut before.moved_to(&somewhere()), stamp).await;
        opens(&browser.moved_to(&somewhere())).await;
        passes(random.seconds(20 * 60));
        let mut somewhere = || layers[random.below(2)].clone();
        let counted = quietly(&mut browser.moved_to(&somewhere()), stamps).await;
        assert_eq!(counted, round.to_string());
        if lost {
            passes(HOUR); // or four of them wait
            opens(&browser.moved_to(&layers[0])).await;
        }
    }
}

/// All ways for up to `most` of these to come one after the other.
fn sequences(of: usize, most: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for length in 0..most {
        let longest: Vec<_> = all
            .iter()
            .filter(|one| one.len() == length)
            .cloned()
            .collect();
        for one in longest {
            for next in (0..of).filter(|next| !one.contains(next)) {
                all.push([one.clone(), vec![next]].concat());
            }
        }
    }
    all
}

#[tokio::test]
async fn whatever_answers_arrive_in_whatever_order_the_last_one_opens_the_session() {
    let site = Site::in_memory();
    for arriving in sequences(WAITING, WAITING) {
        for pause in [Duration::ZERO, 2 * MINUTE] {
            let first = ada(&site).await;
            let mut answers = Vec::new();
            for _ in 0..WAITING {
                answers.push(rotated(&first).await);
            }
            let mut browser = first;
            for next in &arriving {
                browser = answers[*next].clone();
                opens(&browser).await;
                site.clock.advance(pause);
            }
            site.clock.advance(HOUR);
            opens(&browser).await;
            let next = rotated(&browser).await;
            opens(&browser).await;
            opens(&next).await;
        }
    }
}

/// A browser whose requests and answers take their time.
struct Slow {
    site: Site,
    random: Random,
    browser: Visitor,
    /// Requests that rotate, and have loaded the session.
    under_way: Vec<(Arc<Notify>, tokio::task::JoinHandle<Option<Visitor>>)>,
    /// Answers that bring an id, and when that was issued.
    on_their_way: Vec<(Visitor, session_runtime::Timestamp)>,
}

impl Slow {
    async fn new(seed: u64) -> Self {
        let site = Site::in_memory();
        let browser = ada(&site).await;
        Self {
            site,
            random: Random(seed),
            browser,
            under_way: Vec::new(),
            on_their_way: Vec::new(),
        }
    }

    async fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => self.begin().await,
            2 => self.end().await,
            3 | 4 => self.arrive(),
            5 => drop(self.some_answer()), // it is lost
            6 => opens(&self.browser).await,
            _ => {
                opens(&self.browser).await; // or it idles out
                let times = [1, 20, 61, 600, 1800];
                let time = SECOND * times[self.random.below(times.len())];
                self.site.clock.advance(time);
            }
        }
    }

    /// A request that rotates loads the session.
    async fn begin(&mut self) {
        let (loaded, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (signal, wait) = (Arc::clone(&loaded), Arc::clone(&go));
        let rotates = async move |mut session: Session<Desk>| {
            assert!(!session.is_new(), "the browser's cookie opens nothing");
            signal.notify_one();
            wait.notified().await;
            session.rotate().await
        };
        let mut tab = self.browser.clone();
        let request = tokio::spawn(async move {
            let reply = tab.visit(rotates).await;
            assert_eq!(reply.status, StatusCode::OK);
            (!reply.set_cookies().is_empty()).then_some(tab)
        });
        loaded.notified().await;
        self.under_way.push((go, request));
        if self.random.below(2) == 0 {
            self.end().await;
        }
    }

    /// One of them goes on.
    async fn end(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let next = self.random.below(self.under_way.len());
        let (go, request) = self.under_way.swap_remove(next);
        go.notify_one();
        if let Some(answer) = request.await.unwrap() {
            self.on_their_way.push((answer, self.site.now()));
        }
    }

    /// An answer, if there is one. None comes after an hour.
    fn some_answer(&mut self) -> Option<Visitor> {
        let now = self.site.now();
        self.on_their_way.retain(|(_, issued)| now < *issued + HOUR);
        if self.on_their_way.is_empty() {
            return None;
        }
        let next = self.random.below(self.on_their_way.len());
        Some(self.on_their_way.swap_remove(next).0)
    }

    fn arrive(&mut self) {
        if let Some(answer) = self.some_answer() {
            self.browser = answer;
        }
    }
}

#[tokio::test]
async fn whatever_is_slow_or_lost_the_browsers_cookie_opens_the_session() {
    for seed in 0..300 {
        let mut slow = Slow::new(seed).await;
        for _ in 0..60 {
            slow.step().await;
        }
        while !slow.under_way.is_empty() {
            slow.end().await;
        }
        slow.arrive();
        opens(&slow.browser).await;
    }
}

#[tokio::test]
async fn four_hundred_rotations_cost_a_reader_one_load_each() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let first = visitor.clone();
    let (loaded, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, wait) = (Arc::clone(&loaded), Arc::clone(&done));
    let all_the_while = async move |mut session: Session<Desk>| {
        signal.notify_one();
        wait.notified().await;
        *session.stamps.get_mut() += 1;
    };
    let mut tab = visitor.clone();
    let slow = tokio::spawn(async move { quietly(&mut tab, all_the_while).await });
    loaded.notified().await;
    site.store.round_trips();
    for _ in 0..400 {
        visitor = rotated(&visitor).await;
        assert_eq!(site.store.round_trips(), (1, 1));
        opens(&visitor).await;
        assert_eq!(site.store.round_trips(), (1, 1), "its id is presented");
        opens(&visitor).await;
        assert_eq!(site.store.round_trips(), (1, 0));
        site.clock.advance(10 * SECOND);
    }
    opens_nothing(&first).await;
    assert_eq!(site.store.round_trips(), (1, 0));
    let stored = site.record(&visitor).await.unwrap().to_bytes();
    assert!(stored.len() < 2 << 10, "{}", stored.len());
    done.notify_one();
    slow.await.unwrap();
    assert_eq!(quietly(&mut visitor, stamps).await, "1");
}

#[tokio::test]
async fn handles_of_the_request_go_on_under_the_new_id() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let both = async |mut handles: Handles| {
        let (mut one, mut other) = (handles.open::<Desk>().await, handles.open::<Desk>().await);
        *other.stamps.get_mut() += 1;
        *one.stamps.get_mut() += 1;
        one.rotate().await.unwrap();
        assert_eq!(one.id(), other.id());
        drop((one, other));
        handles
            .open::<Desk>()
            .await
            .id()
            .unwrap()
            .expose()
            .to_owned()
    };
    assert_eq!(visitor.visit(both).await.body, visitor.id());
    assert_eq!(quietly(&mut visitor, stamps).await, "2");
}

#[tokio::test]
async fn a_late_rotation_issues_no_id() {
    let site = Site::in_memory();
    let mut visitor = ada(&site).await;
    let mut tab = visitor.clone();
    let late = async move |mut session: Session<Desk>| {
        tab.visit(delete).await;
        session.owner.set("Bob".to_owned());
        session.rotate().await.unwrap();
        format!("{:?}", (session.id(), session.ended()))
    };
    assert_eq!(
        quietly(&mut visitor, late).await,
        r#"(None, Some(Deleted("closed")))"#
    );
    assert_eq!(
        quietly(&mut visitor, why).await,
        r#"Some(Deleted("closed"))"#
    );
}

#[tokio::test]
async fn rotating_a_session_that_is_not_stored_yet_costs_nothing_and_issues_one_id() {
    let site = Site::in_memory();
    let mut visitor = site.visitor();
    let new = async |mut session: Session<Desk>| {
        session.owner.set("Ada".to_owned());
        session.rotate().await.unwrap();
    };
    assert_eq!(visitor.visit(new).await.set_cookies().len(), 1);
    assert_eq!(site.store.round_trips(), (0, 1));
    assert_eq!(quietly(&mut visitor, owner).await, "Ada");
}

/// What somebody may do under the id that they have planted, with which another logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    Rotate,
    LogOut,
    Delete,
    Write,
    Save,
    LogIn,
}

impl Attack {
    const ALL: [Self; 6] = [
        Self::Rotate,
        Self::LogOut,
        Self::Delete,
        Self::Write,
        Self::Save,
        Self::LogIn,
    ];

    fn handler(self) -> MethodRouter {
        match self {
            Self::Rotate => any(rotate),
            Self::LogOut => any(logout),
            Self::Delete => any(delete),
            Self::Write => any(sit),
            Self::Save => any(async |mut session: Session<Desk>| {
                session.owner.set("Mallory".to_owned());
                session.save().await.map(drop)
            }),
            Self::LogIn => any(async |mut session: Session<Desk>| session.login("mallory").await),
        }
    }
}

/// Says who is logged in, and how many stamps they have.
async fn whose(session: Session<Desk>) -> String {
    let user = session.user().map(|user| user.as_str().to_owned());
    format!("{user:?} {}", session.stamps.get())
}

/// Has a victim log in with the id that an attacker has planted, who does both of these meanwhile, in one order of the
/// store's calls. Returns the victim, and all ids that the attacker has then.
async fn attacked(
    site: &HeldSite,
    attacks: [Attack; 2],
    choices: &mut Choices,
) -> (Visitor, Vec<Visitor>) {
    // At home the victim has a stamp.
    let mut home = site.visitor();
    home.visit(login).await;
    quietly(&mut home, stamp).await;
    let planted = ada(site).await;
    let mut requests = JoinSet::new();
    let handlers = [any(login)].into_iter().chain(attacks.map(Attack::handler));
    for (number, handler) in handlers.enumerate() {
        let mut visitor = planted.clone();
        requests.spawn(async move {
            let reply = visitor.visit(handler).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
            (number, visitor)
        });
    }
    let mut ended = site.run(requests, choices).await;
    ended.sort_by_key(|(number, _)| *number);
    let mut visitors = ended.into_iter().map(|(_, visitor)| visitor);
    let victim = visitors.next().unwrap();
    (victim, visitors.chain([planted]).collect())
}

#[tokio::test(start_paused = true)]
async fn a_planted_id_never_opens_the_session_whatever_is_done_under_it_meanwhile() {
    let pairs = Attack::ALL.into_iter().flat_map(|one| {
        let others = Attack::ALL.into_iter().filter(move |other| one <= *other);
        others.map(move |other| [one, other])
    });
    for attacks in pairs {
        // Not each order there is: keys that happen to share a queue wait for each other.
        let some = Choices::sample(100 * times());
        in_each_order(some, async |site, choices| {
            let (mut victim, attackers) = attacked(&site, attacks, choices).await;
            let see_nothing = async |when: &str| {
                for attacker in &attackers {
                    let seen = attacker.clone().visit(whose).await.body;
                    let own = ["None 0", r#"Some("mallory") 0"#];
                    assert!(
                        own.contains(&&*seen),
                        "{when}: {seen} {attacks:?} {choices:?}"
                    );
                }
            };
            see_nothing("before the victim comes back").await;
            let seen = victim.visit(whose).await.body;
            let logged_out = attacks.contains(&Attack::LogOut) && seen == "None 0";
            assert!(
                seen == r#"Some("ada") 1"# || logged_out,
                "{seen} {attacks:?} {choices:?}"
            );
            for time in [SECOND, 2 * MINUTE, 10 * MINUTE] {
                site.clock.advance(time);
                see_nothing("after that").await;
            }
            assert_eq!(victim.visit(whose).await.body, seen);
        })
        .await;
    }
}
