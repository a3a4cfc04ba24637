//! Whatever an app awaits, polled so many times and dropped, for each number of times: it has happened whole, nothing
//! is held up by it, and the next request goes on from there.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::extract::FromRequestParts;
use http::request::Parts;
use session_runtime::store::Record;
use session_runtime::{Error, Session, SessionLayer, Sessions, UserFields, UserId};
use session_tests::customers::{Shop, add, ask, gather, guest, login, shown, user};
use session_tests::{Fault, Handles, Site, Visitor, on_a_cache, on_each_store};
use tokio::task::JoinSet;

use super::stored::{account, list, load, places};

on_each_store!(
    what_is_dropped_amid_any_await_has_happened_whole,
    an_extractor_that_is_dropped_amid_any_await_can_be_tried_again,
    to_end_everybodys_sessions_can_be_dropped_amid_any_await_and_begun_again,
);

on_a_cache!(
    what_is_dropped_amid_any_await_has_happened_whole,
    an_extractor_that_is_dropped_amid_any_await_can_be_tried_again,
    to_end_everybodys_sessions_can_be_dropped_amid_any_await_and_begun_again,
);

/// Polls `work` so many times at most, and drops it. `None` if it was not done by then.
async fn poll_times<T>(work: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut left = times;
    poll_fn(|context| {
        while left > 0 {
            left -= 1;
            match work.as_mut().poll(context) {
                Poll::Ready(done) => return Poll::Ready(Some(done)),
                Poll::Pending if left > 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(None)
    })
    .await
}

/// What a handler awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// In a session that is there.
    Save,
    /// In one that is not.
    Create,
    /// Of what follows the user, too.
    SaveBoth,
    Refresh,
    Claim,
    Rotate,
    Login,
    LoginAgain,
    LoginAsAnother,
    Logout,
    LogoutKeepingFields,
    Delete,
    Migrate,
    Discard,
    /// In the user's stead.
    SaveUser,
    Open,
    List,
    Label,
    Revoke,
    RevokeOthers,
    RevokeAll,
    DeleteUser,
}

const OPS: [Op; 22] = [
    Op::Save,
    Op::Create,
    Op::SaveBoth,
    Op::Refresh,
    Op::Claim,
    Op::Rotate,
    Op::Login,
    Op::LoginAgain,
    Op::LoginAsAnother,
    Op::Logout,
    Op::LogoutKeepingFields,
    Op::Delete,
    Op::Migrate,
    Op::Discard,
    Op::SaveUser,
    Op::Open,
    Op::List,
    Op::Label,
    Op::Revoke,
    Op::RevokeOthers,
    Op::RevokeAll,
    Op::DeleteUser,
];

impl Op {
    /// Returns `true` if what it does is seen though nothing else is awaited.
    fn shows(self) -> bool {
        // What a handle has changed is written at the end of the request in any case.
        !matches!(
            self,
            Self::Save | Self::Create | Self::SaveBoth | Self::Refresh | Self::Open | Self::List
        )
    }

    /// Somebody for whom it does something.
    async fn prepare(self, site: &Site, layer: &SessionLayer, name: &str) -> Visitor {
        match self {
            Self::Create => Visitor::of(layer.clone()),
            Self::Save | Self::Rotate | Self::Login => guest(site, &[2]).await,
            Self::Claim => {
                let mut guest = guest(site, &[2]).await;
                let notes = async |mut session: Session<Shop>| {
                    session.notice.set("Saved.".to_owned());
                };
                guest.visit(notes).await;
                guest
            }
            Self::Migrate | Self::Discard => {
                let mut guest = guest(site, &[2]).await.moved_to(layer);
                login(&mut guest, name).await;
                guest
            }
            _ => {
                drop(user(site, name, &[1]).await);
                user(site, name, &[4]).await
            }
        }
    }

    async fn run(self, of: &mut Of) -> Result<(), Error> {
        let Of {
            session,
            fields,
            sessions,
            user,
            device,
        } = of;
        let (user, device) = (&*user, device.as_deref().unwrap_or_default());
        match self {
            Self::Save | Self::Create | Self::SaveBoth => session.save().await.map(drop),
            Self::Refresh => session.refresh().await,
            Self::Claim => session.notice.claim().await.map(drop),
            Self::Rotate => session.rotate().await,
            Self::Login | Self::LoginAgain => session.login(user.clone()).await,
            Self::LoginAsAnother => session.login(format!("{user}'s friend")).await,
            Self::Logout => session.logout().await,
            Self::LogoutKeepingFields => session.logout_keeping_fields().await,
            Self::Delete => session.delete("enough").await,
            Self::Migrate => session.migrate().await,
            Self::Discard => session.discard().await,
            Self::SaveUser => fields.save().await.map(drop),
            Self::Open => match session.id() {
                Some(id) => sessions.open::<Shop>(id).await.map(drop),
                None => Ok(()),
            },
            Self::List => sessions.list(user).await.map(drop),
            Self::Label => {
                let label = Some("the desk".to_owned());
                sessions.label(user, device, label).await.map(drop)
            }
            Self::Revoke => sessions.revoke(user, device).await.map(drop),
            Self::RevokeOthers => sessions.revoke_others(user, device).await.map(drop),
            Self::RevokeAll => sessions.revoke_all(user).await.map(drop),
            Self::DeleteUser => sessions.delete(user).await,
        }
    }

    /// Changes what the handler changes before.
    fn change(self, session: &mut Session<Shop>) {
        match self {
            Self::Save | Self::Create => "bright".clone_into(session.theme.get_mut()),
            Self::SaveBoth => {
                "bright".clone_into(session.theme.get_mut());
                add(session, 8);
            }
            Self::Login => add(session, 8),
            _ => {}
        }
    }
}

/// What an operation is about.
struct Of {
    session: Session<Shop>,
    /// The fields that follow the user, as the app sees them.
    fields: UserFields<Shop>,
    sessions: Sessions,
    user: UserId,
    device: Option<String>,
}

/// What the handler does after it has dropped what it awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It returns at once.
    Returns,
    /// It goes on with the same handle, and opens another.
    GoesOn,
}

/// Describes a session: what it holds, and of a claim or a login no more than that.
fn described(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "none".to_owned();
    };
    let slots = record.slots().iter().map(|slot| {
        let payload = String::from_utf8_lossy(slot.payload()).into_owned();
        format!("{}={payload}", slot.name().as_str())
    });
    let slots: Vec<_> = slots.filter(|slot| !slot.starts_with('@')).collect();
    format!("{:?} {} {slots:?}", record.ended(), record.user().is_some())
}

/// One run: an operation that is polled so many times. All that can be seen of it afterwards, and whether it was done.
async fn run(site: &Site, op: Op, then: Then, times: usize) -> (String, bool) {
    let name = format!("{op:?} {then:?} {times}");
    let asks = matches!(op, Op::Migrate | Op::Discard);
    let layer = site.layer.clone().migrate(!asks);
    let mut visitor = op.prepare(site, &layer, &name).await;
    let before = visitor.id();
    let begun = (!before.is_empty()).then(|| visitor.key());
    let (store, other, user) = (
        std::sync::Arc::clone(&site.store),
        visitor.clone(),
        UserId::from(&*name),
    );
    let handler = async move |mut handles: Handles, sessions: Sessions| {
        let mut session = handles.open::<Shop>().await;
        if op == Op::Refresh {
            gather(&mut other.clone(), 8).await;
            session_tests::customers::paint(&mut other.clone(), "light").await;
        }
        op.change(&mut session);
        let fields = sessions.with_user::<Shop>(&user).await;
        let mut fields = fields.expect("the store answers");
        if op == Op::SaveUser {
            *fields.points.get_mut() += 16;
        }
        let mut of = Of {
            device: session.device(),
            session,
            fields,
            sessions,
            user,
        };
        store.always(Some(Fault::Yields));
        let done = poll_times(op.run(&mut of), times).await;
        if let Some(done) = &done {
            assert!(done.is_ok(), "{op:?}: {done:?}");
        }
        let mut seen = String::new();
        if then == Then::GoesOn {
            let mut session = of.session;
            let saved = session.save().await;
            assert!(saved.is_ok(), "{op:?} {times}: {saved:?}");
            drop(session);
            let another = handles.open::<Shop>().await;
            seen = format!("{} {:?}", another.theme.get(), another.points.get());
        }
        store.always(None);
        format!("{} {seen}", done.is_some())
    };
    let answer = ask(&mut visitor, handler).await;
    layer.idle().await;
    let (done, seen) = answer.split_once(' ').unwrap_or_default();
    let told = if visitor.id() == before {
        "the same id"
    } else {
        "another id"
    };
    let (account, session) = (
        account(site, &name).await,
        match begun {
            Some(key) => described(load(site, &key).await.as_deref()),
            // What is begun anew is told by what the browser has.
            None => String::new(),
        },
    );
    let next = ask(&mut visitor, shown).await.replace(&name, "user");
    let brought = async |session: Session<Shop>| format!("{:?}", session.points.brought());
    let brought = ask(&mut visitor, brought).await;
    let listed = list(site, &name).await;
    let labels: Vec<_> = listed.iter().filter_map(|device| device.label()).collect();
    let (listed, places) = (listed.len(), places(site, &name).await.len());
    let all = format!(
        "{told} {seen}; {account}; {session}; {next} {brought}; {listed} of {places} {labels:?}"
    );
    (all, done == "true")
}

async fn what_is_dropped_amid_any_await_has_happened_whole(site: Site) {
    for (op, then) in OPS
        .into_iter()
        .flat_map(|op| [Then::Returns, Then::GoesOn].map(|then| (op, then)))
    {
        let (whole, done) = run(&site, op, then, usize::MAX).await;
        assert!(done, "{op:?}");
        let (nothing, _) = run(&site, op, then, 0).await;
        assert!(!op.shows() || whole != nothing, "{op:?}: {whole}");
        let mut times = 0;
        loop {
            times += 1;
            let (told, done) = run(&site, op, then, times).await;
            if op != Op::Refresh {
                assert_eq!(told, whole, "{op:?} {then:?}, dropped after {times}");
            } else if told != whole {
                assert_eq!(told, nothing, "{op:?} {then:?}, dropped after {times}");
            }
            if done {
                break;
            }
        }
    }
    // No connection is kept either.
    let mut visits = JoinSet::new();
    for _ in 0..64 {
        let mut visitor = guest(&site, &[]).await;
        visits.spawn(async move { ask(&mut visitor, shown).await });
    }
    for seen in visits.join_all().await {
        assert_eq!(seen, "guest [] 0 dark");
    }
}

async fn an_extractor_that_is_dropped_amid_any_await_can_be_tried_again(site: Site) {
    let asks = site.layer.clone().migrate(false);
    for who in ["a guest", "a user", "a user who has brought something"] {
        let mut times = 0;
        loop {
            times += 1;
            let name = format!("{who} {times}");
            let (mut visitor, whole) = match who {
                "a guest" => (guest(&site, &[2]).await, "guest [2] 2 dark".to_owned()),
                "a user" => (
                    user(&site, &*name, &[1]).await,
                    format!("{name} [1] 1 plain"),
                ),
                _ => {
                    drop(user(&site, &*name, &[1]).await);
                    let mut guest = guest(&site, &[2]).await.moved_to(&asks);
                    login(&mut guest, &*name).await;
                    let visitor = guest.moved_to(&site.layer);
                    (visitor, format!("{name} [1, 2] 3 dark"))
                }
            };
            let store = std::sync::Arc::clone(&site.store);
            let handler = async move |Taken(mut parts): Taken| {
                store.always(Some(Fault::Yields));
                let extracted = Session::<Shop>::from_request_parts(&mut parts, &());
                let done = poll_times(extracted, times).await.is_some();
                let again = Session::<Shop>::from_request_parts(&mut parts, &()).await;
                store.always(None);
                format!("{done} {}", shown(again.expect("the store answers")).await)
            };
            let told = ask(&mut visitor, handler).await;
            let (done, seen) = told.split_once(' ').unwrap_or_default();
            assert_eq!(seen, whole, "{times}");
            assert_eq!(ask(&mut visitor, shown).await, whole, "{times}");
            if done == "true" {
                break;
            }
        }
        assert!(times > 1, "it had to wait");
    }
}

/// There are many, so it ends some after the others: what it has begun with ends whole.
async fn to_end_everybodys_sessions_can_be_dropped_amid_any_await_and_begun_again(site: Site) {
    let (sessions, mut times, mut is_done) = (site.layer.sessions(), 0, false);
    // What runs beside may be done though this was polled but once.
    while !is_done || times < 20 {
        times += 1;
        let visitors = [user(&site, "ada", &[]).await, guest(&site, &[2]).await];
        site.store.always(Some(Fault::Yields));
        let done = poll_times(sessions.end_all(), times).await;
        is_done = done.is_some();
        done.unwrap_or(Ok(0)).expect("the store answers");
        site.store.always(None);
        site.layer.idle().await;
        for (mut visitor, whole) in visitors
            .into_iter()
            .zip(["ada [] 0 plain", "guest [2] 2 dark"])
        {
            let seen = ask(&mut visitor, shown).await;
            let over = "guest [] 0 plain";
            assert!(seen == whole || seen == over, "{times}: {seen}");
        }
        sessions.end_all().await.expect("the store answers");
        assert_eq!(sessions.count().await.expect("and again"), 0, "{times}");
        assert_eq!(places(&site, "ada").await.len(), 0, "{times}");
    }
}

/// What comes of a request, for a handler that extracts the rest.
struct Taken(Parts);

impl<A: Send + Sync> FromRequestParts<A> for Taken {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.clone()))
    }
}
