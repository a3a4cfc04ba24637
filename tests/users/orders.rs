//! Requests at once, in many orders of their calls of the store. Not each order there is: keys that happen to share a
//! queue wait for each other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Saved, Session, UserId, WhenFull};
use session_tests::customers::{NOTHING, Shop, add, ask, guest, login, shown, try_login, user};
use session_tests::{Choices, HeldSite, Visitor, in_each_order, times};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::stored::{MINUTE, account, list};

/// The number that a request was told is written, if it was.
type Told = Pin<Box<dyn Future<Output = String> + Send>>;
type Aim = fn(Session<Shop>) -> Told;

fn enter(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        session.login("ada").await.expect("the store answers");
        String::new()
    })
}

fn add_and_enter<const N: u32>(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        add(&mut session, N);
        session.login("ada").await.expect("the store answers");
        N.to_string()
    })
}

fn write<const N: u32>(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        add(&mut session, N);
        let saved = session.save().await.expect("the store answers");
        if saved == Saved::Written {
            N.to_string()
        } else {
            String::new()
        }
    })
}

/// Sends these at once from tabs of one visitor. What they were told, and the tabs. With `loaded`, all have loaded the
/// session before any goes on.
async fn pursue(
    site: &HeldSite,
    visitor: &Visitor,
    (aims, loaded): (&[Aim], bool),
    choices: &mut Choices,
) -> Vec<(String, Visitor)> {
    let barrier = Arc::new(Barrier::new(aims.len()));
    let mut tasks = JoinSet::new();
    for &aim in aims {
        let mut tab = visitor.clone();
        let barrier = loaded.then(|| Arc::clone(&barrier));
        tasks.spawn(async move {
            let handler = async move |session: Session<Shop>| {
                if let Some(barrier) = barrier {
                    barrier.wait().await;
                }
                aim(session).await
            };
            let reply = tab.visit(handler).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
            (reply.body, tab)
        });
    }
    site.run(tasks, choices).await
}

/// The numbers of ada's that `shown` shows, sorted. They make as many points.
fn numbers(shown: &str) -> Option<Vec<u32>> {
    let rest = shown.strip_prefix("ada ")?;
    let words = rest.split(['[', ']', ' ', ',']);
    let mut found: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
    let points = found.pop();
    found.sort_unstable();
    (points == Some(found.iter().sum())).then_some(found)
}

#[tokio::test(start_paused = true)]
async fn logins_at_once_lose_and_double_nothing_and_all_their_ids_open_the_session() {
    let lists: [&[Aim]; 4] = [
        &[enter, enter],
        &[add_and_enter::<2>, add_and_enter::<4>],
        &[enter, write::<8>],
        &[add_and_enter::<2>, add_and_enter::<4>, write::<8>],
    ];
    for (aims, loaded) in lists
        .into_iter()
        .flat_map(|aims| [(aims, false), (aims, true)])
    {
        let some = Choices::sample(100 * times());
        in_each_order(some, async |site, choices| {
            let guest = guest(&site, &[1]).await;
            let ended = pursue(&site, &guest, (aims, loaded), choices).await;
            let told = ended.iter().filter_map(|(told, _)| told.parse().ok());
            let mut kept: Vec<u32> = told.chain([1]).collect();
            kept.sort_unstable();
            for (told, mut tab) in ended {
                let seen = ask(&mut tab, shown).await;
                if tab.id() == guest.id() {
                    assert_eq!(seen, NOTHING, "{told} {choices:?}");
                } else {
                    let found = numbers(&seen);
                    assert_eq!(found.as_ref(), Some(&kept), "{told} {seen} {choices:?}");
                    assert!(!loaded || tab.key() == guest.key(), "{told} {choices:?}");
                }
            }
            assert_eq!(ask(&mut guest.clone(), shown).await, NOTHING);
        })
        .await;
    }
}

fn try_to_enter(mut session: Session<Shop>) -> Told {
    Box::pin(async move { session.login("ada").await.is_ok().to_string() })
}

fn try_to_enter_as_bob(mut session: Session<Shop>) -> Told {
    Box::pin(async move { session.login("bob").await.is_ok().to_string() })
}

#[tokio::test(start_paused = true)]
async fn what_a_guest_brings_goes_to_one_user_of_two_that_log_in_at_once() {
    for loaded in [false, true] {
        let mut winners = BTreeSet::new();
        in_each_order(Choices::sample(400 * times()), async |site, choices| {
            let guest = guest(&site, &[1]).await;
            let aims: [Aim; 2] = [try_to_enter, try_to_enter_as_bob];
            let ended = pursue(&site, &guest, (&aims, loaded), choices).await;
            for (_, mut tab) in ended {
                ask(&mut tab, shown).await;
            }
            let accounts = (account(&site, "ada").await, account(&site, "bob").await);
            match (&*accounts.0, &*accounts.1) {
                ("[1] 1", " ") => winners.insert("ada"),
                (" ", "[1] 1") => winners.insert("bob"),
                _ => panic!("{accounts:?} {choices:?}"),
            };
            assert_eq!(ask(&mut guest.clone(), shown).await, NOTHING);
        })
        .await;
        assert_eq!(winners.len(), 2, "loaded: {loaded}");
    }
}

fn leave(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        session.logout().await.expect("the store answers");
        String::new()
    })
}

fn rotate(mut session: Session<Shop>) -> Told {
    Box::pin(async move {
        session.rotate().await.expect("the store answers");
        String::new()
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_under_way_outlives_a_logout() {
    let lists: [&[Aim]; 4] = [
        &[leave, write::<4>],
        &[leave, rotate],
        &[leave, leave, write::<4>],
        &[leave, rotate, write::<4>],
    ];
    for (aims, loaded) in lists
        .into_iter()
        .flat_map(|aims| [(aims, false), (aims, true)])
    {
        let mut written = BTreeSet::new();
        in_each_order(Choices::sample(100 * times()), async |site, choices| {
            let visitor = user(&site, "ada", &[1]).await;
            let ended = pursue(&site, &visitor, (aims, loaded), choices).await;
            // What comes after the logout begins a guest's session.
            let is_another = |tab: &Visitor| !tab.id().is_empty() && tab.key() != visitor.key();
            let kept = ended
                .iter()
                .any(|(told, tab)| told == "4" && !is_another(tab));
            let expected = if kept { "[1,4] 5" } else { "[1] 1" };
            assert_eq!(account(&site, "ada").await, expected, "{choices:?}");
            assert!(list(&site, "ada").await.is_empty(), "{choices:?}");
            let tabs = ended.iter().map(|(_, tab)| tab).chain([&visitor]);
            for (wait, tab) in tabs.flat_map(|tab| [(Duration::ZERO, tab), (10 * MINUTE, tab)]) {
                site.clock.advance(wait);
                let seen = ask(&mut tab.clone(), shown).await;
                let another = !loaded && is_another(tab) && seen == "guest [4] 4 plain";
                assert!(another || seen == NOTHING, "{seen} {choices:?}");
            }
            written.insert(kept);
        })
        .await;
        let writes = aims.contains(&(write::<4> as Aim));
        assert!(
            !writes || written.contains(&true),
            "the write comes first in some orders"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_login_slips_through_while_all_is_revoked_or_the_user_deleted() {
    for (deletes, known) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut outcomes = BTreeSet::new();
        in_each_order(Choices::sample(150 * times()), async |site, choices| {
            if known {
                drop(user(&site, "ada", &[5]).await);
            }
            let mut browser = guest(&site, &[1]).await;
            let (sessions, ada) = (site.layer.sessions(), UserId::from("ada"));
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let status = try_login(&mut browser, "ada").await.status;
                Some((status, browser))
            });
            tasks.spawn(async move {
                if deletes {
                    sessions.delete(&ada).await.expect("the store answers");
                } else {
                    sessions.revoke_all(&ada).await.expect("the store answers");
                }
                None
            });
            let ended = site.run(tasks, choices).await;
            let (status, mut browser) = ended.into_iter().flatten().next().expect("a login");
            let listed = list(&site, "ada").await.len();
            let seen = ask(&mut browser, shown).await;
            let told = (deletes, known, status, &seen, &choices);
            let is_in = seen.starts_with("ada");
            assert_eq!(listed, usize::from(is_in), "{told:?}");
            match status {
                StatusCode::OK if is_in => {
                    let numbers = numbers(&seen).expect("as many points");
                    assert!(numbers.contains(&1), "the login came after: {told:?}");
                    assert!(!deletes || numbers == [1], "{told:?}");
                }
                StatusCode::OK => assert!(seen.starts_with("guest [] 0"), "{told:?}"),
                StatusCode::SERVICE_UNAVAILABLE => {
                    assert_eq!(seen, "guest [1] 1 dark", "{told:?}");
                    login(&mut browser, "ada").await;
                    let seen = ask(&mut browser, shown).await;
                    let expected: &[u32] = if known && !deletes { &[1, 5] } else { &[1] };
                    assert_eq!(
                        numbers(&seen).as_deref(),
                        Some(expected),
                        "{seen} {choices:?}"
                    );
                }
                _ => panic!("{told:?}"),
            }
            outcomes.insert((status, is_in));
        })
        .await;
        assert!(
            outcomes.len() > 1,
            "deletes: {deletes}, known: {known}: {outcomes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn logins_at_once_never_exceed_the_limit() {
    let limits = [(1, 0, 2), (2, 1, 2), (2, 0, 3)];
    let cases = limits
        .into_iter()
        .flat_map(|case| [(case, WhenFull::Refuse), (case, WhenFull::EndOldest)]);
    for ((limit, before, logins), when_full) in cases {
        in_each_order(Choices::sample(60 * times()), async |site, choices| {
            let site = site.with(|layer| layer.max_sessions(limit, when_full));
            for _ in 0..before {
                let mut first = user(&site, "ada", &[]).await;
                ask(&mut first, shown).await;
            }
            let mut tasks = JoinSet::new();
            for _ in 0..logins {
                let mut browser = site.visitor();
                tasks.spawn(async move {
                    let status = try_login(&mut browser, "ada").await.status;
                    (status, browser)
                });
            }
            let ended = site.run(tasks, choices).await;
            let listed = list(&site, "ada").await.len();
            assert_eq!(listed, limit, "{choices:?}");
            let mut let_in = 0;
            for (status, mut browser) in ended {
                let is_in = ask(&mut browser, shown).await.starts_with("ada");
                let_in += usize::from(is_in);
                match status {
                    StatusCode::OK => {
                        assert!(is_in || when_full == WhenFull::EndOldest, "{choices:?}");
                    }
                    StatusCode::FORBIDDEN => assert!(!is_in, "{choices:?}"),
                    _ => panic!("{status} {choices:?}"),
                }
            }
            let room = if when_full == WhenFull::Refuse {
                limit - before
            } else {
                limit
            };
            assert_eq!(let_in, room, "{choices:?}");
        })
        .await;
    }
}
