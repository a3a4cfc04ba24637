//! Requests at once, in many orders of their calls of the store. Not each order there is: keys that happen to share a
//! queue wait for each other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use http::StatusCode;
use session_runtime::store::MemoryStore;
use session_runtime::{Saved, Session};
use session_tests::customers::{NOTHING, Shop, add, ask, guest, shown};
use session_tests::{Choices, Held, Site, Visitor, in_each_order, times};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::stored::account;

/// What a request was told: the number that it wrote for good, if it did.
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
        let is_kept = saved == Saved::Written;
        is_kept.then(|| N.to_string()).unwrap_or_default()
    })
}

/// Sends these at once from tabs of one visitor. What they were told, and the tabs. With `loaded`, all have loaded the
/// session before any goes on.
async fn pursue(
    site: &Site<Held<MemoryStore>>,
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
    site.store.inner().run(tasks, choices).await
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
