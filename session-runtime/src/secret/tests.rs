use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{KEPT, Opens, SecretHash, Secrets, Standing, WAITING};
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_793_491_200_000);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The secret that the test calls so.
fn secret(name: u32) -> SecretHash {
    let mut hash = [0; 16];
    hash[..4].copy_from_slice(&name.to_le_bytes());
    SecretHash::from_bytes(hash)
}

/// A session whose client has presented secret 1.
fn session() -> Secrets {
    Secrets::first(secret(1), NOW)
}

/// A session that has been rotated once, from secret 1 to secret 2, which nobody has presented yet.
fn rotated() -> Secrets {
    let mut secrets = session();
    assert!(secrets.rotate(secret(1), secret(2), NOW));
    secrets
}

impl Secrets {
    fn opens(&self, name: u32, now: Timestamp) -> bool {
        let opens = self.look_up(secret(name), now);
        matches!(opens, Opens::Current | Opens::Retiring)
    }

    fn count(&self, is_kind: impl Fn(&Standing) -> bool) -> usize {
        let secrets = self.0.iter();
        secrets.filter(|secret| is_kind(&secret.standing)).count()
    }
}

// Rotations.

#[test]
fn an_unknown_secret_opens_nothing() {
    assert_eq!(session().look_up(secret(9), NOW), Opens::Nothing);
    assert_eq!(Secrets::default().look_up(secret(9), NOW), Opens::Nothing);
}

#[test]
fn a_rotation_retires_what_has_been_presented() {
    let secrets = rotated();
    assert_eq!(secrets.look_up(secret(1), NOW), Opens::Retiring);
    assert_eq!(secrets.look_up(secret(2), NOW), Opens::Current);
}

#[test]
fn a_retiring_secret_opens_for_as_long_as_its_replacement_is_not_presented() {
    let secrets = rotated();
    assert!(secrets.opens(1, NOW + 24 * 365 * HOUR));
}

#[test]
fn a_retiring_secret_opens_for_a_minute_after_its_replacement_has_come_back() {
    let mut secrets = rotated();
    let back = NOW + HOUR;
    secrets.present(secret(2), back);
    assert!(secrets.opens(1, back + (MINUTE - MS)));
    assert_eq!(secrets.look_up(secret(1), back + MINUTE), Opens::Retired);
    assert!(secrets.opens(2, back + MINUTE));
}

#[test]
fn only_the_first_presentation_counts() {
    let mut secrets = rotated();
    assert!(secrets.is_news(secret(2)));
    secrets.present(secret(2), NOW);
    assert!(!secrets.is_news(secret(2)));
    let noted = secrets.clone();
    secrets.present(secret(2), NOW + SECOND);
    secrets.present(secret(1), NOW + SECOND);
    secrets.present(secret(9), NOW + SECOND);
    assert_eq!(secrets, noted);
}

#[test]
fn each_retiring_secret_has_its_own_minute() {
    let mut secrets = rotated();
    secrets.present(secret(2), NOW);
    assert!(secrets.rotate(secret(2), secret(3), NOW + 30 * SECOND));
    let back = NOW + 40 * SECOND;
    secrets.present(secret(3), back);
    assert!(secrets.opens(1, NOW + (MINUTE - MS)));
    assert!(!secrets.opens(1, NOW + MINUTE));
    assert!(secrets.opens(2, back + (MINUTE - MS)));
    assert!(!secrets.opens(2, back + MINUTE));
}

#[test]
fn a_minute_does_not_begin_with_a_secret_from_before() {
    let mut secrets = rotated();
    // Secret 2 is on its way when 3 is issued, presented, and rotated.
    assert!(secrets.rotate(secret(1), secret(3), NOW));
    secrets.present(secret(3), NOW);
    assert!(secrets.rotate(secret(3), secret(4), NOW));
    assert_eq!(secrets.look_up(secret(3), NOW), Opens::Retiring);
    secrets.present(secret(2), NOW);
    assert!(secrets.opens(3, NOW + HOUR));
    secrets.present(secret(4), NOW + HOUR);
    assert!(!secrets.opens(3, NOW + HOUR + MINUTE));
}

#[test]
fn a_minute_begins_with_any_secret_from_after() {
    let mut secrets = rotated();
    assert!(secrets.rotate(secret(1), secret(3), NOW));
    secrets.present(secret(3), NOW);
    assert!(!secrets.opens(1, NOW + MINUTE));
}

#[test]
fn a_secret_that_was_never_presented_stays_current() {
    let mut secrets = rotated();
    assert!(secrets.rotate(secret(1), secret(3), NOW));
    secrets.present(secret(3), NOW);
    assert!(secrets.rotate(secret(3), secret(4), NOW + MINUTE));
    assert_eq!(secrets.look_up(secret(2), NOW + MINUTE), Opens::Current);
    secrets.present(secret(2), NOW + MINUTE);
    assert!(secrets.rotate(secret(2), secret(5), NOW + MINUTE));
    assert_eq!(secrets.look_up(secret(2), NOW + MINUTE), Opens::Retiring);
}

#[test]
fn a_rotation_presents_its_own_secret() {
    let mut secrets = rotated();
    assert!(secrets.rotate(secret(2), secret(3), NOW));
    assert!(!secrets.opens(1, NOW + MINUTE));
    assert_eq!(secrets.look_up(secret(2), NOW), Opens::Retiring);
}

#[test]
fn a_rotation_by_a_retiring_secret_retires_nothing() {
    let mut secrets = rotated();
    secrets.present(secret(2), NOW);
    assert!(secrets.rotate(secret(1), secret(3), NOW));
    assert_eq!(secrets.look_up(secret(2), NOW), Opens::Current);
    assert_eq!(secrets.look_up(secret(3), NOW), Opens::Current);
}

#[test]
fn a_rotation_by_a_secret_that_opens_nothing_issues_nothing() {
    let mut secrets = rotated();
    secrets.present(secret(2), NOW);
    for (own, later) in [(9, NOW), (1, NOW + MINUTE)] {
        let before = secrets.clone();
        assert!(!secrets.rotate(secret(own), secret(3), later));
        assert_eq!(secrets, before);
    }
    secrets.supersede(NOW);
    let before = secrets.clone();
    assert!(!secrets.rotate(secret(2), secret(3), NOW));
    assert_eq!(secrets, before);
}

/// A session for which as many secrets wait as may: 2, 3, 4 and 5, of which nobody has presented any.
fn waiting() -> Secrets {
    let mut secrets = session();
    for name in 2..6 {
        assert!(secrets.rotate(secret(1), secret(name), NOW));
    }
    secrets
}

#[test]
fn a_rotation_issues_nothing_while_four_wait() {
    let mut secrets = waiting();
    let before = secrets.clone();
    assert!(!secrets.rotate(secret(1), secret(6), NOW + (HOUR - MS)));
    assert_eq!(secrets, before);
    secrets.present(secret(3), NOW);
    assert!(secrets.rotate(secret(3), secret(6), NOW));
    assert!((1..=6).all(|name| secrets.opens(name, NOW)));
}

#[test]
fn a_secret_that_nobody_has_presented_falls_after_an_hour() {
    let mut secrets = waiting();
    assert!(secrets.rotate(secret(1), secret(6), NOW + HOUR));
    let opens = [1, 2, 3, 4, 5, 6].map(|name| secrets.opens(name, NOW + HOUR));
    assert_eq!(opens, [true, false, false, false, false, true]);
}

#[test]
fn a_secret_presented_after_an_hour_rotates_as_any_other() {
    let mut secrets = waiting();
    assert!(secrets.rotate(secret(2), secret(6), NOW + 2 * HOUR));
    assert!(secrets.opens(2, NOW + 2 * HOUR));
    assert!(secrets.opens(6, NOW + 2 * HOUR));
}

#[test]
fn four_hundred_rotations_in_a_row_leave_what_one_leaves() {
    for pause in [MS, 3 * SECOND, 2 * MINUTE] {
        let mut secrets = session();
        let mut now = NOW;
        for name in 1..=400 {
            now = now + pause;
            assert!(secrets.rotate(secret(name), secret(name + 1), now));
            // The request that was sent before the answer came.
            assert!(secrets.opens(name, now));
            assert!(secrets.opens(name + 1, now));
            assert!(secrets.0.len() <= 1 + KEPT, "{}", secrets.0.len());
        }
    }
}

#[test]
fn at_most_sixteen_of_each_are_kept_the_newest() {
    let mut secrets = session();
    for name in 1..100 {
        assert!(secrets.rotate(secret(name), secret(name + 1), NOW));
    }
    assert_eq!(
        secrets.count(|it| matches!(it, Standing::Retiring { .. })),
        KEPT
    );
    assert!((84..=100).all(|name| secrets.opens(name, NOW)));
    assert!(!secrets.opens(83, NOW));

    // Those whose answers come while requests with the oldest are under way stay current.
    let mut secrets = rotated();
    for name in 2..100 {
        secrets.present(secret(name), NOW);
        assert!(secrets.rotate(secret(1), secret(name + 1), NOW));
    }
    assert_eq!(
        secrets.count(|it| matches!(it, Standing::Current { .. })),
        KEPT
    );
    assert!((85..=100).all(|name| secrets.opens(name, NOW)));

    // So it is where the same old secret logs in again and again, and nobody presents what that issues.
    secrets.supersede(NOW);
    for name in 101..150 {
        secrets.issue(secret(name), NOW);
    }
    assert_eq!(
        secrets.count(|it| matches!(it, Standing::Current { .. })),
        KEPT
    );
    assert!((134..150).all(|name| secrets.opens(name, NOW)));

    for name in 150..200 {
        secrets.issue(secret(name), NOW);
        secrets.supersede(NOW);
    }
    assert_eq!(secrets.0.len(), KEPT);
    assert_eq!(secrets.look_up(secret(199), NOW), Opens::Superseded);
}

// Logins and logouts.

#[test]
fn a_superseded_secret_is_known_for_five_minutes_from_when_the_newer_one_is_presented() {
    let mut secrets = rotated();
    secrets.supersede(NOW);
    secrets.issue(secret(3), NOW);
    secrets.present(secret(3), NOW + MINUTE);
    for name in [1, 2] {
        let known = NOW + (6 * MINUTE - MS);
        assert_eq!(secrets.look_up(secret(name), known), Opens::Superseded);
        let later = secrets.look_up(secret(name), NOW + 6 * MINUTE);
        assert_eq!(later, Opens::Nothing);
    }
    assert_eq!(secrets.look_up(secret(3), NOW + 6 * MINUTE), Opens::Current);
}

#[test]
fn while_the_newer_one_has_not_come_back_a_login_knows_a_superseded_secret_however_late() {
    let mut secrets = session();
    secrets.supersede(NOW);
    secrets.issue(secret(2), NOW);
    let (late, known) = (NOW + 60 * MINUTE, secret(1));
    assert_eq!(secrets.look_up(known, NOW + 5 * MINUTE), Opens::Nothing);
    assert_eq!(secrets.look_up_for_login(known, late), Opens::Superseded);
    assert_eq!(secrets.superseded_since(known), None);

    secrets.present(secret(2), late);
    assert_eq!(secrets.superseded_since(known), Some(late));
    let after = late + 5 * MINUTE;
    assert_eq!(secrets.look_up_for_login(known, after), Opens::Nothing);
}

#[test]
fn a_second_login_does_not_prolong_what_the_first_superseded() {
    let mut secrets = session();
    secrets.supersede(NOW);
    secrets.issue(secret(2), NOW);
    secrets.present(secret(2), NOW);
    secrets.supersede(NOW + 4 * MINUTE);
    let later = NOW + 5 * MINUTE;
    assert_eq!(secrets.look_up(secret(1), later), Opens::Nothing);
    assert_eq!(secrets.look_up(secret(2), later), Opens::Superseded);
}

#[test]
fn a_login_does_not_give_time_anew_to_what_had_retired() {
    let mut secrets = rotated();
    secrets.present(secret(2), NOW);
    assert_eq!(secrets.look_up(secret(1), NOW + MINUTE), Opens::Retired);
    secrets.supersede(NOW + 4 * MINUTE);
    let known = NOW + (5 * MINUTE - MS);
    assert_eq!(secrets.look_up(secret(1), known), Opens::Superseded);
    assert_eq!(secrets.look_up(secret(1), NOW + 5 * MINUTE), Opens::Nothing);
}

#[test]
fn a_superseded_secret_is_never_anything_else() {
    let mut secrets = session();
    secrets.supersede(NOW);
    secrets.issue(secret(2), NOW);
    secrets.present(secret(1), NOW);
    assert!(!secrets.is_news(secret(1)));
    assert!(!secrets.rotate(secret(1), secret(3), NOW));
    assert!(secrets.rotate(secret(2), secret(4), NOW));
    assert_eq!(secrets.look_up(secret(1), NOW), Opens::Superseded);
}

#[test]
fn only_what_nobody_has_presented_is_taken_back() {
    let mut secrets = session();
    assert!(!secrets.take_back(secret(1)));
    secrets.supersede(NOW);
    secrets.issue(secret(2), NOW);
    secrets.issue(secret(3), NOW);
    assert!(!secrets.take_back(secret(1)));
    assert!(secrets.take_back(secret(2)));
    assert!(!secrets.take_back(secret(2)));
    assert!(secrets.open_anything(NOW));
    secrets.present(secret(3), NOW);
    assert!(!secrets.take_back(secret(3)));

    let mut waiting = Secrets::unpresented(secret(4), NOW);
    assert!(waiting.take_back(secret(4)));
    assert!(!waiting.open_anything(NOW));
}

#[test]
fn a_session_knows_since_when_its_client_can_open_it() {
    let mut secrets = Secrets::unpresented(secret(1), NOW);
    assert_eq!(secrets.presented(), None);
    secrets.present(secret(1), NOW + SECOND);
    assert_eq!(secrets.presented(), Some(NOW + SECOND));
    assert!(secrets.rotate(secret(1), secret(2), NOW + MINUTE));
    assert!(secrets.presented().is_some());
    assert_eq!(secrets.last_issued(), Some(NOW + MINUTE));
    secrets.supersede(NOW + MINUTE);
    assert_eq!(secrets.presented(), None);
}

#[test]
fn no_hash_is_shown() {
    assert_eq!(format!("{:?}", secret(1)), "SecretHash(REDACTED)");
}

// Whatever a browser goes through.

/// What happens to a browser and to the answers that are on their way to it.
#[derive(Clone, Debug)]
enum Event {
    /// The browser sends a request, to an instance whose clock may be half a minute ahead.
    Request {
        rotates: bool,
        ahead: bool,
    },
    /// A request that was sent with an earlier cookie arrives by now.
    Late {
        rotates: bool,
        ahead: bool,
        which: prop::sample::Index,
    },
    /// One of the answers arrives.
    Arrives(prop::sample::Index),
    /// One of the answers is lost.
    Lost(prop::sample::Index),
    Pass(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = any::<prop::sample::Index>;
    let flags = || (any::<bool>(), any::<bool>());
    let event = prop_oneof![
        4 => flags().prop_map(|(rotates, ahead)| Event::Request { rotates, ahead }),
        4 => (flags(), index()).prop_map(|((rotates, ahead), which)| {
            Event::Late { rotates, ahead, which }
        }),
        4 => index().prop_map(Event::Arrives),
        1 => index().prop_map(Event::Lost),
        2 => (0..12_000_u64).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
    ];
    vec(event, 0..200)
}

/// How many cookies ago a request under way may have been sent: of retiring secrets no more than sixteen are kept.
const UNDER_WAY: usize = 8;

struct Browser {
    secrets: Secrets,
    now: Timestamp,
    cookie: u32,
    /// Cookies that requests under way carry, and when they were last the browser's.
    earlier: Vec<(u32, Timestamp)>,
    answers: Vec<u32>,
    issued: u32,
}

impl Browser {
    fn new() -> Self {
        Self {
            secrets: session(),
            now: NOW,
            cookie: 1,
            earlier: Vec::new(),
            answers: Vec::new(),
            issued: 1,
        }
    }

    /// Serves a request, and returns `true` if its cookie opened the session.
    fn serve(&mut self, cookie: u32, rotates: bool, ahead: bool) -> bool {
        let now = self.now + u32::from(ahead) * 30 * SECOND;
        if !self.secrets.opens(cookie, now) {
            return false;
        }
        if rotates
            && self
                .secrets
                .rotate(secret(cookie), secret(self.issued + 1), now)
        {
            self.issued += 1;
            self.answers.push(self.issued);
        }
        self.secrets.present(secret(cookie), now);
        true
    }

    fn meet(&mut self, event: &Event) -> bool {
        // Nothing is under way for longer than that.
        let oldest = self.now - 25 * SECOND;
        let surplus = self.earlier.len().saturating_sub(UNDER_WAY);
        self.earlier.drain(..surplus);
        self.earlier.retain(|(_, last)| oldest <= *last);
        match *event {
            Event::Request { rotates, ahead } => return self.serve(self.cookie, rotates, ahead),
            Event::Late {
                rotates,
                ahead,
                which,
            } if !self.earlier.is_empty() => {
                let (cookie, _) = self.earlier[which.index(self.earlier.len())];
                return self.serve(cookie, rotates, ahead);
            }
            Event::Arrives(which) if !self.answers.is_empty() => {
                let answer = self.answers.remove(which.index(self.answers.len()));
                self.earlier.push((self.cookie, self.now));
                self.cookie = answer;
            }
            Event::Lost(which) if !self.answers.is_empty() => {
                self.answers.remove(which.index(self.answers.len()));
            }
            Event::Pass(time) => self.now = self.now + time,
            _ => {}
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_cookie_a_browser_ends_with_opens_the_session(events in events()) {
        let mut browser = Browser::new();
        for event in &events {
            prop_assert!(browser.meet(event), "not opened at {:?}", event);
            for ahead in [Duration::ZERO, 30 * SECOND] {
                prop_assert!(browser.secrets.opens(browser.cookie, browser.now + ahead));
            }
            let waits = Standing::Current { presented: None };
            prop_assert!(browser.secrets.count(|standing| *standing == waits) <= WAITING);
            prop_assert!(browser.secrets.0.len() <= 2 * KEPT);
        }
    }

    #[test]
    fn thirty_two_rotations_at_once_cost_nobody_the_session(
        order in Just((2..34).collect::<Vec<u32>>()).prop_shuffle(),
        arrive in 0..32_usize,
        ahead in vec(any::<bool>(), 32),
    ) {
        let mut secrets = session();
        let clock = |ahead: bool| NOW + u32::from(ahead) * 30 * SECOND;
        let issued: Vec<u32> = (2..34)
            .zip(&ahead)
            .filter(|(name, ahead)| secrets.rotate(secret(1), secret(*name), clock(**ahead)))
            .map(|(name, _)| name)
            .collect();
        prop_assert_eq!(issued.len(), WAITING);
        // Some answers are lost; of the others any may be the last.
        let arrived = order.iter().take(arrive).filter(|name| issued.contains(name));
        let cookie = arrived.copied().last().unwrap_or(1);
        for ahead in ahead {
            prop_assert!(secrets.opens(cookie, clock(ahead)));
            secrets.present(secret(cookie), clock(ahead));
        }
        // The others are still on their way.
        prop_assert!(issued.iter().all(|name| secrets.opens(*name, NOW + 30 * MINUTE)));
        // One that is back makes room for another.
        let rotated = secrets.rotate(secret(cookie), secret(99), NOW + 30 * SECOND);
        prop_assert_eq!(rotated, cookie != 1);
    }

}

proptest! {
    #[test]
    fn a_planted_secret_never_opens_after_a_login(
        before in events(),
        after in events(),
        again in any::<prop::sample::Index>(),
    ) {
        let mut browser = Browser::new();
        for event in &before {
            browser.meet(event);
        }
        let planted = browser.issued;
        let login = |browser: &mut Browser| {
            browser.secrets.supersede(browser.now);
            browser.issued += 1;
            browser.cookie = browser.issued;
            browser.secrets.issue(secret(browser.cookie), browser.now);
        };
        login(&mut browser);
        // Whoever planted a secret sends it along with all that happens.
        let mut own = 10_000;
        for (at, event) in after.iter().enumerate() {
            browser.meet(event);
            if at == again.index(after.len()) {
                login(&mut browser);
            }
            for name in planted.saturating_sub(3)..=planted {
                own += 1;
                prop_assert!(!browser.secrets.opens(name, browser.now));
                prop_assert!(!browser.secrets.rotate(secret(name), secret(own), browser.now));
                browser.secrets.present(secret(name), browser.now);
                prop_assert!(!browser.secrets.opens(own, browser.now));
            }
        }
    }
}
