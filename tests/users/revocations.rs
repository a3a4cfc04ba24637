//! Ending a user's sessions from elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use session_runtime::store::{Record, Store, StoreError, Swapped, Swept};
use session_runtime::{Ended, Key, Session, SessionLayer, Sessions, UserId, WhenFull};
use session_tests::customers::{
    NOTHING, Shop, ask, entering, gather, guest, login, quietly, rotate, shown, try_login, user,
    why,
};
use session_tests::{Fault, PATIENCE, Site, Visitor, on_a_cache, on_each_store, times};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::breaks::{CONFIRMATION, break_off, breaks, logs_in};
use super::stored::{MINUTE, MS, account, admitted, cost, list, load, places};

on_each_store!(
    a_revoked_session_is_told_so_and_others_live_on,
    no_session_is_live_after_all_are_revoked,
    logins_that_race_a_revocation_fail_or_are_listed,
    a_login_that_broke_off_before_a_revocation_opens_nothing_after_it,
    a_revocation_that_breaks_off_is_finished_by_the_next_who_lists,
    who_always_checks_the_user_sees_a_revocation_at_once,
    no_login_slips_through_because_its_instance_reads_from_a_cache,
);

on_a_cache!(
    a_revoked_session_is_told_so_and_others_live_on,
    logins_that_race_a_revocation_fail_or_are_listed,
    who_always_checks_the_user_sees_a_revocation_at_once,
);

async fn id_of(visitor: &mut Visitor) -> String {
    let device = async |session: Session<Shop>| session.device().unwrap_or_default();
    ask(visitor, device).await
}

async fn a_revoked_session_is_told_so_and_others_live_on(site: Site) {
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mut bob = user(&site, "bob", &[]).await;
    let of_bob = id_of(&mut bob).await;
    let mut browsers = Vec::new();
    for _ in 0..4 {
        browsers.push(user(&site, "ada", &[]).await);
    }
    gather(&mut browsers[0], 1).await;
    assert!(!sessions.revoke(&ada, &of_bob).await.unwrap());
    let of_ada = id_of(&mut browsers[0]).await;
    assert!(!sessions.revoke("bob", &of_ada).await.unwrap());
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");

    let [mut one, mut two, mut three, mut four] = <[Visitor; 4]>::try_from(browsers).unwrap();
    let first = id_of(&mut one).await;
    assert!(sessions.revoke(&ada, &first).await.unwrap());
    assert!(!sessions.revoke(&ada, &first).await.unwrap(), "it is over");
    assert_eq!(quietly(&mut one, shown).await, NOTHING);
    assert_eq!(ask(&mut one, why).await, "Some(Revoked)");
    assert!(!admitted(&site, "ada").await.contains(&one.key()));

    // From within a request, as an app does it.
    let others = async |session: Session<Shop>, sessions: Sessions| {
        let (user, device) = (session.user().unwrap(), session.device().unwrap());
        let revoked = sessions.revoke_others(&user, &device).await;
        revoked.unwrap().to_string()
    };
    assert_eq!(ask(&mut two, others).await, "2");
    assert_eq!(ask(&mut two, others).await, "0");
    assert_eq!(ask(&mut two, shown).await, "ada [1] 1 plain");
    for ended in [&mut three, &mut four] {
        assert_eq!(ask(ended, shown).await, NOTHING);
        assert_eq!(ask(ended, why).await, "Some(Revoked)");
    }

    login(&mut three, "ada").await;
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 2);
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 0);
    assert_eq!(sessions.revoke_all("nobody").await.unwrap(), 0);
    assert!(places(&site, "ada").await.is_empty());
    for ended in [&mut two, &mut three] {
        assert_eq!(ask(ended, why).await, "Some(Revoked)");
        // Whoever it was goes on as a guest, and can log in again.
        gather(ended, 7).await;
        assert_eq!(ask(ended, shown).await, "guest [7] 7 plain");
    }
    login(&mut two, "ada").await;
    assert_eq!(ask(&mut two, shown).await, "ada [1, 7] 8 plain");
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");
}

/// So many browsers of one user: some rotated, one in the middle of a login.
async fn browsers(site: &Site, layer: &SessionLayer, name: &str, count: usize) -> Vec<Visitor> {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (layer, name) = (layer.clone(), name.to_owned());
        tasks.spawn(async move {
            let mut visitors = Vec::new();
            for number in 0..count / 4 {
                let mut visitor = Visitor::of(layer.clone());
                login(&mut visitor, &*name).await;
                if number % 10 == 0 {
                    ask(&mut visitor, rotate).await;
                }
                visitors.push(visitor);
            }
            visitors
        });
    }
    let mut visitors = tasks.join_all().await.concat();
    // The session, the user, the user once more, the opening: and no further.
    let at = (CONFIRMATION + 1, Fault::Before, Fault::Full);
    let reply = break_off(site, &mut visitors[count / 2], at, entering(name)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    visitors
}

/// Counts the live ones: to be opened, or to be taken up by a login.
async fn live(site: &Site, visitors: &[Visitor]) -> usize {
    let mut live = 0;
    for visitor in visitors {
        let record = site.record(visitor).await.unwrap();
        live += usize::from(record.ended().is_none());
    }
    live
}

async fn no_session_is_live_after_all_are_revoked(site: Site) {
    revoke_many(site, (200 * times()).min(1000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_a_thousand_sessions_is_live_after_they_are_revoked() {
    revoke_many(Site::in_memory(), 1000).await;
}

async fn revoke_many(site: Site, count: usize) {
    let sessions = site.layer.sessions();
    let layer = site.layer.clone().max_sessions(2000, WhenFull::Refuse);
    let mut bob = user(&site, "bob", &[]).await;

    let mut visitors = browsers(&site, &layer, "ada", count).await;
    let ada = UserId::from("ada");
    assert_eq!(live(&site, &visitors).await, count);
    let first = id_of(&mut visitors[0]).await;
    assert!(sessions.revoke(&ada, &first).await.unwrap());
    assert_eq!(live(&site, &visitors[..1]).await, 0);
    assert_eq!(live(&site, &visitors).await, count - 1);
    let spared = id_of(&mut visitors[count - 1]).await;
    assert_eq!(
        sessions.revoke_others(&ada, &spared).await.unwrap(),
        count - 2
    );
    assert_eq!(live(&site, &visitors[..count - 1]).await, 0);
    assert_eq!(live(&site, &visitors).await, 1);

    let visitors = browsers(&site, &layer, "eve", 100).await;
    assert_eq!(sessions.revoke_all("eve").await.unwrap(), 100);
    assert_eq!(live(&site, &visitors).await, 0);

    let visitors = browsers(&site, &layer, "dan", 100).await;
    sessions.delete("dan").await.unwrap();
    assert_eq!(live(&site, &visitors).await, 0);

    assert_eq!(list(&site, "bob").await.len(), 1);
    assert_eq!(ask(&mut bob, shown).await, "bob [] 0 plain");
}

async fn logins_that_race_a_revocation_fail_or_are_listed(site: Site) {
    for race in 0..60 * times() {
        let limit = if race % 2 == 0 { 1 } else { 100 };
        let layer = site.layer.clone().max_sessions(limit, WhenFull::EndOldest);
        let name = format!("ada {race}");
        drop(user(&site, &*name, &[100]).await);
        let barrier = Arc::new(Barrier::new(3));
        let mut logins = JoinSet::new();
        for number in [1, 2] {
            let mut tab = guest(&site, &[number]).await.moved_to(&layer);
            let (barrier, user) = (Arc::clone(&barrier), UserId::from(&*name));
            logins.spawn(async move {
                let handler = async move |mut session: Session<Shop>| {
                    barrier.wait().await;
                    session.login(user).await
                };
                let reply = tab.visit(handler).await;
                (reply.status, number, tab)
            });
        }
        let (sessions, ada) = (site.layer.sessions(), UserId::from(&*name));
        barrier.wait().await;
        for _ in 0..race % 7 {
            tokio::task::yield_now().await;
        }
        sessions.revoke_all(&ada).await.unwrap();
        let mut live = Vec::new();
        for (status, number, mut tab) in logins.join_all().await {
            let seen = quietly(&mut tab, shown).await;
            if status == StatusCode::OK {
                if seen != NOTHING {
                    assert!(seen.starts_with(&name), "{seen}");
                    live.push(tab.key());
                }
                continue;
            }
            // Refused, as the guest of before, and able to log in.
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(seen, format!("guest [{number}] {number} dark"));
            assert!(!account(&site, &name).await.contains(&format!(",{number}")));
            login(&mut tab, &*name).await;
            assert!(account(&site, &name).await.contains(&format!(",{number}")));
            sessions.revoke(&ada, &id_of(&mut tab).await).await.unwrap();
            if limit == 1 {
                live.clear(); // it had to leave for this one
            }
        }
        live.sort();
        assert_eq!(admitted(&site, &name).await, live, "{name}");
        let stored = account(&site, &name).await;
        assert!(
            ["[100,1,2] 103", "[100,2,1] 103"].contains(&&*stored),
            "{stored}"
        );
    }
}

async fn a_login_that_broke_off_before_a_revocation_opens_nothing_after_it(site: Site) {
    let sessions = site.layer.sessions();
    for at in breaks(CONFIRMATION + 2) {
        for deleted in [false, true] {
            let name = format!("ada {deleted} {at:?}");
            let ada = UserId::from(&*name);
            drop(user(&site, &*name, &[1]).await);
            let mut visitor = guest(&site, &[2]).await;
            break_off(&site, &mut visitor, at, entering(&*name)).await;
            if deleted {
                sessions.delete(&ada).await.unwrap();
            } else {
                sessions.revoke_all(&ada).await.unwrap();
            }
            assert!(list(&site, &name).await.is_empty());
            assert!(admitted(&site, &name).await.is_empty());
            let seen = ask(&mut visitor, shown).await;
            assert!(
                [NOTHING, "guest [2] 2 dark"].contains(&&*seen),
                "{name}: {seen}"
            );
            // And can be tried again by whoever still has the password.
            login(&mut visitor, &*name).await;
            let all = account(&site, &name).await;
            let expected = match (deleted, &*all) {
                (true, "[2] 2" | " ") | (false, "[1,2] 3") => all.replace(',', ", "),
                _ => panic!("{name}: {all}"),
            };
            let seen = ask(&mut visitor, shown).await;
            let expected = if expected == " " {
                "[] 0".to_owned()
            } else {
                expected
            };
            assert!(seen.starts_with(&format!("{name} {expected}")), "{seen}");
        }
    }
}

async fn a_revocation_that_breaks_off_is_finished_by_the_next_who_lists(site: Site) {
    let sessions = site.layer.sessions();
    for at in breaks(8) {
        for by_login in [false, true] {
            let name = format!("ada {by_login} {at:?}");
            let ada = UserId::from(&*name);
            let mut browsers = [
                user(&site, &*name, &[1]).await,
                user(&site, &*name, &[]).await,
            ];
            let keys = browsers.clone().map(|browser| browser.key());
            site.store.fail_after(at.0, at.1, at.2);
            let revoked = sessions.revoke_all(&ada).await;
            site.store.heal();
            let is_marked = admitted(&site, &name).await.is_empty();
            assert!(is_marked || revoked.is_err(), "{name}");
            for browser in &mut browsers {
                let seen = ask(browser, shown).await;
                assert_eq!(seen == NOTHING, is_marked, "{name} {seen}");
            }
            if !is_marked {
                continue;
            }
            if by_login {
                login(&mut site.visitor(), &*name).await;
            } else {
                assert!(list(&site, &name).await.is_empty());
            }
            for key in keys {
                let record = load(&site, &key).await.unwrap();
                assert_eq!(record.ended(), Some(&Ended::Revoked), "{name}");
            }
            assert_eq!(places(&site, &name).await.len(), usize::from(by_login));
        }
    }
}

/// Nothing of it follows.
#[derive(Session)]
struct Page {
    visits: u32,
}

async fn who_always_checks_the_user_sees_a_revocation_at_once(site: Site) {
    let page = async |session: Session<Page>| {
        format!(
            "{:?} {:?} {}",
            session.user().is_some(),
            session.ended(),
            session.visits.get()
        )
    };
    let checks = site.layer.clone().always_check_user(true);
    let mut visitor = user(&site, "ada", &[]).await;
    quietly(&mut visitor, async |mut session: Session<Page>| {
        session.visits.set(1);
    })
    .await;
    let mut checked = visitor.moved_to(&checks);
    assert_eq!(cost(&site, &mut visitor, page).await, (1, 0));
    assert_eq!(cost(&site, &mut checked, page).await, (2, 0));
    assert_eq!(quietly(&mut checked, page).await, "true None 1");
    // All places are marked, and the revocation goes no further.
    let sessions = site.layer.sessions();
    site.store.fail_after(2, Fault::Full, Fault::Full);
    assert!(sessions.revoke_all("ada").await.is_err());
    site.store.heal();
    assert_eq!(quietly(&mut checked, page).await, "false Some(Revoked) 0");
    assert_eq!(
        quietly(&mut visitor, shown).await,
        NOTHING,
        "it has fields that follow"
    );
    assert_eq!(
        quietly(&mut visitor, page).await,
        "true None 1",
        "a moment later it is over"
    );
    assert!(list(&site, "ada").await.is_empty());
    assert_eq!(quietly(&mut visitor, page).await, "false Some(Revoked) 0");
    // Nobody who writes nothing of the user's writes anything else.
    let mut visitor = user(&site, "bob", &[]).await.moved_to(&checks);
    sessions.revoke_all("bob").await.unwrap();
    let visit = async |mut session: Session<Page>| *session.visits.get_mut() += 1;
    let mut old = visitor.clone();
    assert_eq!(
        visitor.visit(visit).await.set_cookies().len(),
        1,
        "a guest's"
    );
    assert_eq!(quietly(&mut old, page).await, "false Some(Revoked) 0");
}

#[tokio::test]
async fn a_revoked_session_is_over_whatever_it_is_in_the_middle_of() {
    let site = Site::in_memory();
    let mut visitor = user(&site, "ada", &[]).await;
    let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
    let mid = async move |mut session: Session<Shop>| {
        sessions.revoke_all(&ada).await.unwrap();
        session.theme.set("late".to_owned());
        drop(session.rotate().await);
        drop(session.save().await);
    };
    let reply = visitor.visit(mid).await;
    assert_eq!(
        (reply.status, reply.set_cookies().len()),
        (StatusCode::OK, 0)
    );
    let record = site.record(&visitor).await.unwrap();
    assert_eq!(record.ended(), Some(&Ended::Revoked));
    assert!(list(&site, "ada").await.is_empty());
}

#[tokio::test]
async fn a_session_that_is_revoked_while_it_logs_in_again_is_over() {
    for others in [false, true] {
        let site = Site::in_memory();
        let mut desk = user(&site, "ada", &[1]).await;
        let mut visitor = user(&site, "ada", &[]).await;
        let (key, old) = (visitor.key(), visitor.clone());
        site.store.plan_after(CONFIRMATION + 1, [Fault::Held]);
        let login_again = logs_in(visitor.clone(), "ada");
        site.store.until_held(1).await;
        let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
        let device = id_of(&mut desk).await;
        if others {
            assert_eq!(sessions.revoke_others(&ada, &device).await.unwrap(), 1);
        } else {
            assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 2);
        }
        site.store.release();
        let (_, reply) = login_again.await.unwrap();
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            reply.body
        );
        assert!(reply.error.is_some_and(|error| error.is_revoked()));
        assert!(load(&site, &key).await.unwrap().ended().is_some());
        assert_eq!(ask(&mut old.clone(), shown).await, NOTHING);
        assert_eq!(admitted(&site, "ada").await.len(), usize::from(others));
        site.clock.advance(MINUTE);
        login(&mut visitor, "ada").await;
        assert_eq!(ask(&mut visitor, shown).await, "ada [1] 1 plain");
    }
}

/// A near cache whose server tells it nothing: it forgets what it writes itself, and nothing else. All of ada's
/// sessions are revoked, by another instance, just before this one opens one.
struct Untold<S> {
    store: Arc<S>,
    kept: Mutex<HashMap<Key, Option<Arc<Record>>>>,
    elsewhere: Sessions,
}

impl<S: Store> Store for Untold<S> {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let kept = self.kept.lock().unwrap().get(key).cloned();
        let record = match kept {
            Some(record) => record,
            None => self.store.load(key).await?,
        };
        let mut kept = self.kept.lock().unwrap();
        kept.insert(key.clone(), record.clone());
        Ok(record)
    }

    async fn load_latest(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.store.load_latest(key).await
    }

    fn is_cached(&self) -> bool {
        true
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        if matches!(key, Key::Session(_)) && after.user().is_some() {
            let revoked = self.elsewhere.revoke_all("ada").await;
            revoked.expect("the store answers");
        }
        let swapped = self.store.swap(key, before, after).await;
        self.kept.lock().unwrap().remove(key);
        swapped
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.store.sweep(limit).await
    }
}

async fn no_login_slips_through_because_its_instance_reads_from_a_cache(site: Site) {
    for limit in [1, 5] {
        for is_guest in [false, true] {
            let mut other = user(&site, "ada", &[]).await;
            let untold = Untold {
                store: Arc::clone(&site.store),
                kept: Mutex::default(),
                elsewhere: site.layer.sessions(),
            };
            let layer = SessionLayer::new(untold)
                .clock(site.clock.clone())
                .deadline(PATIENCE)
                .max_sessions(limit, WhenFull::EndOldest);
            // It knows the user as of before.
            let mut warm = other.moved_to(&layer);
            assert_eq!(ask(&mut warm, shown).await, "ada [] 0 plain");
            let mut browser = if is_guest {
                guest(&site, &[1]).await.moved_to(&layer)
            } else {
                Visitor::of(layer)
            };
            let reply = try_login(&mut browser, "ada").await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(list(&site, "ada").await.is_empty());
            assert_eq!(ask(&mut other, shown).await, NOTHING);
            let seen = ask(&mut browser, shown).await;
            assert_eq!(
                seen,
                if is_guest {
                    "guest [1] 1 dark"
                } else {
                    NOTHING
                }
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_its_time_from_when_it_is_awaited() {
    let site = Site::in_memory();
    drop(user(&site, "ada", &[1]).await);
    let sessions = site.layer.sessions();
    let later = sessions.revoke_all("ada");
    tokio::time::sleep(2 * PATIENCE).await;
    site.store.always(Some(Fault::Slow(MS)));
    assert_eq!(later.await.unwrap(), 1);
}
