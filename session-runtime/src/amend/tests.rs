//! Shuttle drives the loop and the plans over a store that answers late, fails before or after the effect, or asks twice: every run
//! takes other turns, and what is promised holds in each.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use shuttle::Runner;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::RandomScheduler;
use tokio::time::Instant;

use super::{Amended, Failure, Freshness, amend, create, load};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::id::SessionId;
use crate::key::{Key, UserId};
use crate::login::Login;
use crate::plan::Plan;
use crate::plan::claim;
use crate::plan::edit::{Caps, SlotEdit};
use crate::plan::end::{self, Ending};
use crate::plan::lifetime::Lifetimes;
use crate::plan::open::ClientFacts;
use crate::plan::save::{FactEdits, Opened, Outcome, Save};
use crate::record::{Ended, Record, Slot};
use crate::revoke::OfUser;
use crate::row::{Row, RowOf};
use crate::secret::{Opens, Secrets};
use crate::store::{KEPT_AFTER_EXPIRY, MemoryStore, Store, StoreError, Swapped, Swept};
use crate::testing::TestClock;
use crate::transport::CookieTransport;

/// Runs of each promise. `SCHEDULES` asks for another number.
const RUNS: usize = 400;

const LIFETIMES: Lifetimes = Lifetimes {
    ttl: Duration::from_secs(7_200),
    absolute: Duration::from_secs(86_400),
};

const CAPS: Caps = Caps {
    field: 1 << 10,
    record: 1 << 20,
};

static CART: Row<u32> = Row::new("cart", || 0).merge(crate::merge::sum::<u32>);
static NOTE: Row<String> = Row::new("note", String::new);
static ROWS: [RowOf; 2] = [RowOf::new(&CART), RowOf::new(&NOTE)];

/// A store in which every call takes its time, and some break.
struct Slow {
    inner: MemoryStore,
    /// One call in so many breaks.
    breaks: u32,
    /// How often a user's record was looked up.
    looks: Arc<AtomicUsize>,
}

impl Slow {
    fn breaks(&self) -> bool {
        self.breaks > 0 && thread_rng().gen_ratio(1, self.breaks)
    }
}

impl Store for Slow {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        yield_now().await;
        let loaded = self.inner.load(key).await;
        self.looks
            .fetch_add(usize::from(key.is_user()), Ordering::SeqCst);
        yield_now().await;
        loaded
    }

    async fn swap(
        &self,
        key: &Key,
        before: Option<&Arc<Record>>,
        after: &Arc<Record>,
    ) -> Result<Swapped, StoreError> {
        yield_now().await;
        if self.breaks() {
            return Err(StoreError::unavailable("before the effect"));
        }
        let swapped = self.inner.swap(key, before, after).await;
        yield_now().await;
        if self.breaks() {
            return Err(StoreError::unavailable("after the effect"));
        }
        if self.breaks() {
            // As a client does that asks again by itself where it has no answer.
            return self.inner.swap(key, before, after).await;
        }
        swapped
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, StoreError> {
        self.inner.sweep(limit).await
    }
}

/// What the tasks of one run share.
#[derive(Clone)]
struct World {
    config: Arc<Config>,
    clock: TestClock,
    left: Arc<AtomicUsize>,
    looks: Arc<AtomicUsize>,
}

impl World {
    fn new(breaks: u32) -> Self {
        let looks = Arc::default();
        let clock = TestClock::new();
        let store = Arc::new(Slow {
            inner: MemoryStore::new().with_clock(clock.clone()),
            breaks,
            looks: Arc::clone(&looks),
        });
        let mut config = Config::new(store, CookieTransport::new().into());
        config.set_clock(Arc::new(clock.clone()));
        config.deadline = Duration::from_secs(3_600);
        let known = config.know(std::any::TypeId::of::<Self>(), "World", &ROWS);
        known.expect("it is the only one");
        Self {
            config: Arc::new(config),
            clock,
            left: Arc::default(),
            looks,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.deadline
    }

    fn now(&self) -> Timestamp {
        self.config.now()
    }

    async fn load(&self, key: &Key) -> Option<Arc<Record>> {
        let loaded = load(&self.config, key, Freshness::Latest, self.deadline()).await;
        loaded.expect("loads do not break")
    }

    /// Begins a task that counts as under way until it is done.
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> shuttle::future::JoinHandle<T> {
        self.left.fetch_add(1, Ordering::SeqCst);
        let left = Arc::clone(&self.left);
        spawn(async move {
            let done = task.await;
            left.fetch_sub(1, Ordering::SeqCst);
            done
        })
    }

    /// Puts a guest's session there, with three units in the cart.
    async fn guest(&self) -> (SessionId, Arc<Record>) {
        let id = SessionId::generate().expect("random bytes");
        let key = Key::from(&id);
        let record = create(&self.config, &key, self.deadline(), |now| {
            let slots = [Arc::new(Slot::new("cart", "3", None))];
            let mut record = Record::new(now, now + LIFETIMES.ttl).with_slots(slots);
            record.head_mut().secrets = Secrets::first(id.secret(), now);
            Ok(record)
        });
        let created = record.await.ok();
        let record = created.and_then(|created| created.record.filter(|_| created.outcome));
        (id, record.expect("nothing else has its selector"))
    }

    fn opened(&self, id: SessionId, record: Arc<Record>) -> Opened {
        Opened {
            record,
            secret: id.secret(),
            presents: true,
            at: self.now(),
        }
    }

    /// Changes the cart of a session as a request does that has loaded it.
    async fn put(&self, id: SessionId, record: Arc<Record>, units: u32) -> Option<Outcome> {
        self.write(id, record, units, None).await
    }

    /// Gives a session another id, which is sent if this returns it.
    async fn rotate(&self, id: SessionId, record: Arc<Record>) -> Option<SessionId> {
        let next = SessionId::of(id.selector()).expect("random bytes");
        let written = self.write(id, record, 0, Some(next)).await;
        let issued = matches!(written, Some(Outcome::Saved { issued: true, .. }));
        issued.then_some(next)
    }

    async fn write(
        &self,
        id: SessionId,
        record: Arc<Record>,
        units: u32,
        next: Option<SessionId>,
    ) -> Option<Outcome> {
        let base = record.slot("cart").cloned();
        let held = base.as_ref().map_or(0, |slot| number(slot));
        let ours = Slot::new("cart", (held + units).to_string(), None);
        let edits = [SlotEdit {
            row: &CART,
            base,
            ours: Some(Arc::new(ours)),
            used_up: false,
        }];
        let opened = self.opened(id, Arc::clone(&record));
        let save = Save {
            opened: &opened,
            edits: &edits,
            facts: FactEdits::default(),
            touch: true,
            amid: false,
            lifetimes: LIFETIMES,
            caps: CAPS,
            rotate: next.map(|next| next.secret()),
            place: None,
            astray: &[],
        };
        let key = Key::from(&id);
        self.surely(&key, Some(record), |there, now| {
            save.plan(there, now).expect("it has room")
        })
        .await
    }

    /// Amends, and finds out what came of it: `None` if nothing has.
    async fn surely<T: Send>(
        &self,
        key: &Key,
        seen: Option<Arc<Record>>,
        mut plan: impl FnMut(Option<&Arc<Record>>, Timestamp) -> Plan<T> + Send,
    ) -> Option<T> {
        let mut meant = None;
        let amended = amend(&self.config, key, seen, self.deadline(), |there, now| {
            Ok(match plan(there, now) {
                Plan::Write(after, outcome) => {
                    meant = Some(outcome);
                    Plan::Write(after, ())
                }
                Plan::Leave(outcome) => {
                    meant = Some(outcome);
                    Plan::Leave(())
                }
            })
        });
        let mut unknown = match amended.await {
            Ok(Amended { .. }) => return meant,
            Err(Failure { error, unknown }) => unknown.unwrap_or_else(|| panic!("{error}")),
        };
        // What has been swept since stays in doubt for good.
        for _ in 0..100 {
            match unknown.resolve(&self.config, key, self.deadline()).await {
                Ok((_, applied)) => return meant.filter(|_| applied),
                Err(Failure {
                    error,
                    unknown: still,
                }) => {
                    unknown = still.unwrap_or_else(|| panic!("{error}"));
                }
            }
        }
        None
    }
}

/// Does work in a process that is killed at any moment, or not. `None` if it was.
async fn mortally<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut left = thread_rng().gen_range(1..40);
    let mut work = pin!(work);
    poll_fn(|context| {
        left -= 1;
        match work.as_mut().poll(context) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

fn number(slot: &Slot) -> u32 {
    let text = std::str::from_utf8(slot.payload()).expect("text");
    text.parse().expect("a number")
}

fn cart(record: &Record) -> u32 {
    record.slot("cart").map_or(0, |slot| number(slot))
}

/// Runs `test` in many orders. Time passes at any moment, and none but for that.
fn explore<F: Future<Output = ()> + Send + 'static>(
    breaks: u32,
    test: impl Fn(World) -> F + Send + Sync + 'static,
) {
    let runs = std::env::var("SCHEDULES").ok();
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        let world = World::new(breaks);
        let under_way = Arc::clone(&world.left);
        let test = world.spawn(test(world.clone()));
        block_on(async {
            while under_way.load(Ordering::SeqCst) > 0 {
                runtime.block_on(tokio::time::advance(Duration::from_millis(9)));
                yield_now().await;
            }
            test.await.expect("it ends well");
        });
    };
    let mut settings = shuttle::Config::new();
    settings.stack_size = 1 << 20; // unoptimised futures are large
    Runner::new(RandomScheduler::new(runs), settings).run(run);
}

#[test]
fn every_increment_counts_once_whatever_breaks() {
    explore(5, |world| async move {
        let (id, record) = world.guest().await;
        let tasks: Vec<_> = (1..=3)
            .map(|units| {
                let (world, record) = (world.clone(), Arc::clone(&record));
                world.clone().spawn(async move {
                    let first = world.put(id, record, units).await;
                    let there = world.load(&Key::from(&id)).await.expect("a session");
                    let second = world.put(id, there, units).await;
                    [first, second]
                        .into_iter()
                        .flatten()
                        .map(|_| units)
                        .sum::<u32>()
                })
            })
            .collect();
        let mut counted = 0;
        for task in tasks {
            counted += task.await.expect("it ends well");
        }
        let there = world.load(&Key::from(&id)).await.expect("a session");
        assert_eq!(cart(&there), 3 + counted);
    });
}

#[test]
fn what_two_requests_set_is_all_kept() {
    explore(6, |world| async move {
        let (id, record) = world.guest().await;
        let key = Key::from(&id);
        let tasks: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let (world, key, record) = (world.clone(), key.clone(), Arc::clone(&record));
                world.clone().spawn(async move {
                    let set = world.surely(&key, Some(record), |there, _| {
                        let mut after = there.expect("a session").next();
                        after.set(Arc::new(Slot::new(name, "1", None)));
                        Plan::Write(Arc::new(after), ())
                    });
                    (name, set.await.is_some())
                })
            })
            .into_iter()
            .collect();
        for task in tasks {
            let (name, set) = task.await.expect("it ends well");
            let there = world.load(&key).await.expect("a session");
            assert_eq!(there.slot(name).is_some(), set, "{name}");
        }
    });
}

#[test]
fn an_ended_session_stays_ended_whoever_writes() {
    explore(5, |world| async move {
        let (id, record) = world.guest().await;
        let key = Key::from(&id);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (world, record) = (world.clone(), Arc::clone(&record));
                world
                    .clone()
                    .spawn(async move { world.put(id, record, 1).await })
            })
            .collect();
        let ended = world.surely(&key, Some(record), |there, now| {
            end::by_holder(there, id.secret(), &Ended::LoggedOut, |_| false, now)
        });
        let ended = ended.await;
        let at_that_time = world.load(&key).await.expect("what is left of it");
        assert_eq!(at_that_time.ended().is_some(), ended == Some(Ending::Done));
        for writer in writers {
            let _ = writer.await.expect("it ends well");
        }
        let later = world.load(&key).await.expect("what is left of it");
        assert_eq!(later.ended(), at_that_time.ended());
        if later.ended().is_some() {
            assert!(later.slots().is_empty());
        }
    });
}

#[test]
fn one_of_two_creations_of_a_key_succeeds() {
    explore(4, |world| async move {
        let key = Key::User(UserId::new("ada"));
        let tasks = [1, 2].map(|number| {
            let (world, key) = (world.clone(), key.clone());
            world.clone().spawn(async move {
                let made = world.surely(&key, None, |there, now| match there {
                    None => {
                        let slot = Arc::new(Slot::new("cart", number.to_string(), None));
                        let record = Record::new(now, now + LIFETIMES.ttl).with_slots([slot]);
                        Plan::Write(Arc::new(record), true)
                    }
                    Some(_) => Plan::Leave(false),
                });
                made.await == Some(true)
            })
        });
        let mut made = Vec::new();
        for task in tasks {
            made.push(task.await.expect("it ends well"));
        }
        let there = world.load(&key).await;
        assert_eq!(there.is_some(), made.contains(&true));
        assert!(made.iter().filter(|made| **made).count() <= 1, "{made:?}");
    });
}

#[test]
fn what_a_guest_brings_is_credited_once_however_logins_and_requests_meet() {
    explore(9, |world| async move {
        let (id, record) = world.guest().await;
        let user = UserId::new("ada");
        let logins: Vec<_> = (0..2)
            .map(|_| {
                let (world, user) = (world.clone(), user.clone());
                let opened = world.opened(id, Arc::clone(&record));
                world
                    .clone()
                    .spawn(async move { log_in(&world, &user, id, opened).await })
            })
            .collect();
        let request = {
            let (world, record) = (world.clone(), Arc::clone(&record));
            world
                .clone()
                .spawn(async move { world.put(id, record, 1).await })
        };
        let mut ids = Vec::new();
        for login in logins {
            ids.push(login.await.expect("it ends well").expect("no login fails"));
        }
        assert!(request.await.expect("it ends well").is_some());
        let session = world.load(&Key::from(&id)).await.expect("a session");
        for id in ids
            .iter()
            .copied()
            .chain([log_in_again(&world, &user, ids[0]).await])
        {
            assert_eq!(id.selector(), ids[0].selector());
        }
        let opens = |id: &SessionId| session.head.secrets.look_up(id.secret(), world.now());
        assert!(ids.iter().all(|id| opens(id) == Opens::Current));
        assert_eq!(opens(&id), Opens::Superseded);
        let user = world
            .load(&Key::User(user))
            .await
            .expect("the user's record");
        assert_eq!(cart(&user), 4);
    });
}

#[test]
fn a_login_that_began_before_a_revocation_leaves_no_session_and_no_guest_without_one() {
    explore(9, |world| async move {
        let user = UserId::new("ada");
        let (id, record) = world.guest().await;
        let login = {
            let (world, user) = (world.clone(), user.clone());
            let opened = world.opened(id, Arc::clone(&record));
            world
                .clone()
                .spawn(async move { log_in(&world, &user, id, opened).await })
        };
        while world.looks.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        let of_user = OfUser::new(&world.config, &user).expect("a short name");
        of_user.revoke_all(None).await.expect("nothing breaks");
        let logged_in = login.await.expect("it ends well");
        let left = of_user.list().await.expect("nothing breaks");
        assert!(left.is_empty());
        let session = world.load(&Key::from(&id)).await.expect("a session");
        if logged_in.is_some() {
            assert_eq!(session.ended(), Some(&Ended::Revoked));
            return;
        }
        assert_eq!(cart(&session), 3, "the guest has what was there");
        let opens = session.head.secrets.look_up(id.secret(), world.now());
        assert_eq!(opens, Opens::Current);
    });
}

#[test]
fn a_login_that_is_killed_anywhere_is_credited_once_by_the_next() {
    explore(8, |world| async move {
        let (id, record) = world.guest().await;
        let user = UserId::new("ada");
        let spawning = world.clone();
        let killed: Vec<_> = (0..2)
            .map(|_| {
                let (world, user) = (world.clone(), user.clone());
                let opened = world.opened(id, Arc::clone(&record));
                let login = async move { log_in(&world, &user, id, opened).await };
                spawning.spawn(mortally(login))
            })
            .collect();
        let request = {
            let (world, record) = (world.clone(), Arc::clone(&record));
            world
                .clone()
                .spawn(async move { world.put(id, record, 1).await })
        };
        for login in killed {
            let _ = login.await.expect("it ends well");
        }
        let put = request.await.expect("it ends well");
        let put = matches!(put, Some(Outcome::Saved { .. } | Outcome::SetApart));
        // The browser has had no answer.
        log_in_again(&world, &user, id).await;
        let account = world
            .load(&Key::User(user))
            .await
            .expect("the user's record");
        assert_eq!(cart(&account), 3 + u32::from(put));
    });
}

#[test]
fn of_three_claims_one_gets_what_is_there() {
    explore(5, |world| async move {
        let (id, record) = world.guest().await;
        let key = Key::from(&id);
        let claims: Vec<_> = (0..3)
            .map(|_| {
                let (world, key, record) = (world.clone(), key.clone(), Arc::clone(&record));
                world.clone().spawn(async move {
                    let claimed = world.surely(&key, Some(record), |there, now| {
                        claim::take_out(there.expect("a session"), &CART, now)
                    });
                    claimed.await.flatten()
                })
            })
            .collect();
        let mut claimed = Vec::new();
        for claim in claims {
            claimed.extend(claim.await.expect("it ends well"));
        }
        let there = world.load(&key).await.expect("a session");
        assert!(claimed.len() <= 1);
        // One whose answer is lost for good has not taken it either.
        assert_eq!(there.slot("cart").is_none(), claimed.len() == 1);
    });
}

#[test]
fn an_id_that_is_sent_opens_the_session_until_it_ends_and_then_none_is_issued() {
    explore(5, |world| async move {
        let (id, record) = world.guest().await;
        let key = Key::from(&id);
        let over = Arc::new(AtomicBool::new(false));
        let rotations: Vec<_> = (0..2)
            .map(|_| {
                let (world, record) = (world.clone(), Arc::clone(&record));
                let over = Arc::clone(&over);
                world.clone().spawn(async move {
                    let mut sent = Vec::new();
                    for _ in 0..2 {
                        let was_over = over.load(Ordering::SeqCst);
                        let issued = world.rotate(id, Arc::clone(&record)).await;
                        assert!(!was_over || issued.is_none(), "an ended session has an id");
                        sent.extend(issued);
                    }
                    sent
                })
            })
            .collect();
        let end = {
            let (world, key, over) = (world.clone(), key.clone(), Arc::clone(&over));
            world.clone().spawn(async move {
                if thread_rng().gen_ratio(1, 2) {
                    return;
                }
                let ended = world.surely(&key, Some(record), |there, now| {
                    end::by_holder(there, id.secret(), &Ended::LoggedOut, |_| false, now)
                });
                let ended = ended.await == Some(Ending::Done);
                over.store(ended, Ordering::SeqCst);
            })
        };
        let mut sent = Vec::new();
        for rotation in rotations {
            sent.extend(rotation.await.expect("it ends well"));
        }
        end.await.expect("it ends well");
        let there = world.load(&key).await.expect("what is left of it");
        assert_eq!(there.ended().is_some(), over.load(Ordering::SeqCst));
        let opens = |id: &SessionId| there.head.secrets.look_up(id.secret(), world.now());
        for id in sent.iter().chain([&id]).filter(|_| there.ended().is_none()) {
            assert!(matches!(opens(id), Opens::Current | Opens::Retiring));
        }
    });
}

#[test]
fn what_has_expired_stays_gone_whoever_writes_or_sweeps() {
    explore(5, |world| async move {
        let (id, record) = world.guest().await;
        let key = Key::from(&id);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (world, record) = (world.clone(), Arc::clone(&record));
                world
                    .clone()
                    .spawn(async move { world.put(id, record, 1).await })
            })
            .collect();
        for _ in 0..thread_rng().gen_range(0..12) {
            yield_now().await;
        }
        world.clock.advance(LIFETIMES.ttl + KEPT_AFTER_EXPIRY);
        let is_live =
            |there: Option<Arc<Record>>| there.is_some_and(|there| there.is_live(world.now()));
        assert!(!is_live(world.load(&key).await));
        let swept = world.config.store.sweep(10).await;
        assert!(swept.expect("it does not break").deleted <= 1);
        for writer in writers {
            let _ = writer.await.expect("it ends well");
        }
        assert!(!is_live(world.load(&key).await), "it is revived");
    });
}

async fn log_in(world: &World, user: &UserId, id: SessionId, opened: Opened) -> Option<SessionId> {
    let login = Login {
        config: &world.config,
        user,
        fingerprint: None,
        from: Some((id.selector(), opened)),
        edits: &[],
        facts: FactEdits::default(),
        client: ClientFacts::default(),
        rows: &ROWS,
        lifetimes: LIFETIMES,
        deadline: world.deadline(),
    };
    login.run().await.ok().map(|done| done.id)
}

async fn log_in_again(world: &World, user: &UserId, id: SessionId) -> SessionId {
    let record = world.load(&Key::from(&id)).await.expect("a session");
    let again = log_in(world, user, id, world.opened(id, record));
    again.await.expect("no login fails")
}
