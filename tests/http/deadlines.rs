//! Deadlines: whatever somebody waits for answers within one of them, however long each call of the store takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use session_runtime::{Error, Session, Sessions, UserFields, UserId, WhenFull};
use session_tests::{Fault, Handles, Site, Visitor};
use tokio::time::Instant;

/// The default.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long after that the answer may come.
const GRACE: Duration = Duration::from_millis(100);

const TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// How long each call takes, in tenths of the deadline: none is too long for one call, but for the last two.
const TENTHS: [u32; 7] = [2, 3, 5, 9, 10, 11, 100];

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
    text: String,
    #[flash]
    notice: Option<String>,
}

/// What a handler waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Save,
    Refresh,
    Rotate,
    Claim,
    LogIn,
    LogInAsAnother,
    LogOut,
    LogOutKeepingFields,
    Delete,
    Migrate,
    Discard,
    /// To look up what follows a user, in that one's stead.
    WithUser,
    SaveUser,
    Open,
    Page,
    Count,
    List,
    Label,
    Revoke,
    RevokeOthers,
    RevokeAll,
    DeleteUser,
    /// Nothing: only the end of the request.
    None,
}

const OPERATIONS: [Operation; 23] = [
    Operation::Save,
    Operation::Refresh,
    Operation::Rotate,
    Operation::Claim,
    Operation::LogIn,
    Operation::LogInAsAnother,
    Operation::LogOut,
    Operation::LogOutKeepingFields,
    Operation::Delete,
    Operation::Migrate,
    Operation::Discard,
    Operation::WithUser,
    Operation::SaveUser,
    Operation::Open,
    Operation::Page,
    Operation::Count,
    Operation::List,
    Operation::Label,
    Operation::Revoke,
    Operation::RevokeOthers,
    Operation::RevokeAll,
    Operation::DeleteUser,
    Operation::None,
];

impl Operation {
    async fn run(
        self,
        session: &mut Session<Shop>,
        sessions: &Sessions,
        fields: &mut UserFields<Shop>,
    ) -> Result<(), Error> {
        let (ada, own) = (UserId::from("ada"), session.device().unwrap_or_default());
        match self {
            Self::Save => session.save().await.map(drop),
            Self::Refresh => session.refresh().await,
            Self::Rotate => session.rotate().await,
            Self::Claim => session.notice.claim().await.map(drop),
            Self::LogIn => session.login("ada").await,
            Self::LogInAsAnother => session.login("bob").await,
            Self::LogOut => session.logout().await,
            Self::LogOutKeepingFields => session.logout_keeping_fields().await,
            Self::Delete => session.delete("done").await,
            Self::Migrate => session.migrate().await,
            Self::Discard => session.discard().await,
            Self::WithUser => sessions.with_user::<Shop>(ada).await.map(drop),
            Self::SaveUser => fields.save().await.map(drop),
            Self::Open => match session.id() {
                Some(id) => sessions.open::<Shop>(id).await.map(drop),
                None => Ok(()),
            },
            Self::Page => sessions.page(None).await.map(drop),
            // There is but one page.
            Self::Count => sessions.count().await.map(drop),
            Self::List => sessions.list(&ada).await.map(drop),
            Self::Label => sessions
                .label(&ada, &own, Some("phone".to_owned()))
                .await
                .map(drop),
            Self::Revoke => sessions.revoke(&ada, &own).await.map(drop),
            Self::RevokeOthers => sessions.revoke_others(&ada, &own).await.map(drop),
            Self::RevokeAll => sessions.revoke_all(&ada).await.map(drop),
            Self::DeleteUser => sessions.delete(&ada).await,
            Self::None => Ok(()),
        }
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Newcomer,
    Guest,
    /// Logged in, and what the guest had brought is set apart still.
    User,
}

const CLIENTS: [Client; 3] = [Client::Newcomer, Client::Guest, Client::User];

async fn bring(mut session: Session<Shop>) {
    session.text.set("x".to_owned());
    session.notice.set("Hello".to_owned());
    *session.points.get_mut() += 1;
}

async fn login(mut session: Session<Shop>) -> Result<(), Error> {
    session.login("ada").await
}

impl Client {
    async fn come(self, site: &Site) -> Visitor {
        let mut visitor = site.visitor();
        if self != Self::Newcomer {
            visitor.visit(bring).await;
        }
        if self == Self::User {
            let set_apart = site.layer.clone().migrate(false);
            let mut elsewhere = visitor.moved_to(&set_apart);
            assert_eq!(elsewhere.visit(login).await.status, StatusCode::OK);
            visitor = elsewhere.moved_to(&site.layer);
        }
        visitor
    }
}

/// A site whose user has as many sessions as are allowed, and more whose time has passed.
async fn shop() -> Site {
    let site = Site::in_memory().with(|layer| {
        layer
            .deadline(DEADLINE)
            .max_sessions(6, WhenFull::EndOldest)
    });
    for _ in 0..4 {
        assert_eq!(site.visitor().visit(login).await.status, StatusCode::OK);
    }
    site.clock.advance(TTL + TTL / 6);
    for _ in 0..2 {
        assert_eq!(site.visitor().visit(login).await.status, StatusCode::OK);
    }
    site
}

/// How long somebody has waited for what.
type Waits = Arc<Mutex<Vec<(&'static str, Duration)>>>;

fn note(waits: &Waits, what: &'static str, since: Instant) {
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
    waits.push((what, since.elapsed()));
}

/// One request that changes both the session and the user, and waits for the operation amid. From so many calls of it on,
/// each call goes wrong; `None`: from its very beginning.
async fn waits(
    site: &Site,
    mut visitor: Visitor,
    operation: Operation,
    (after, fault): (Option<usize>, Fault),
) -> Vec<(&'static str, Duration)> {
    let waits = Waits::default();
    let (noted, store) = (Arc::clone(&waits), Arc::clone(&site.store));
    let (begun, ended) = (Instant::now(), Arc::new(Mutex::new(Instant::now())));
    let end = Arc::clone(&ended);
    let fields = site.layer.sessions().with_user::<Shop>("ada").await;
    let mut fields = fields.expect("the store answers");
    *fields.points.get_mut() += 1;
    let fields = Arc::new(Mutex::new(Some(fields)));
    let handler = async move |mut session: Session<Shop>, sessions: Sessions| {
        note(&noted, "the extraction", begun);
        bring_more(&mut session);
        let fields = fields.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut fields = fields.expect("it is asked once");
        if let Some(calls) = after {
            store.fail_after(calls, fault, fault);
        }
        let begun = Instant::now();
        let done = operation.run(&mut session, &sessions, &mut fields).await;
        note(&noted, "the operation", begun);
        bring_more(&mut session);
        *end.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        done
    };
    if after.is_none() {
        site.store.always(Some(fault));
    }
    visitor.visit(handler).await;
    site.store.heal();
    // Also if there was nothing but an extraction.
    note(
        &waits,
        "the end",
        *ended.lock().unwrap_or_else(PoisonError::into_inner),
    );
    let waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
    waits.clone()
}

fn bring_more(session: &mut Session<Shop>) {
    session.text.get_mut().push('x');
    *session.points.get_mut() += 1;
}

fn assert_in_time(waits: &[(&'static str, Duration)], what: &str) {
    for (which, waited) in waits {
        assert!(
            *waited <= DEADLINE + GRACE,
            "{which} took {waited:?}: {what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_handler_waits_for_answers_within_one_deadline_however_slow_each_call_is() {
    for operation in OPERATIONS {
        for client in CLIENTS {
            for tenths in TENTHS {
                for fault in [Fault::Slow, Fault::Late] {
                    let fault = fault(DEADLINE * tenths / 10);
                    let what = format!("{operation:?} of a {client:?}, each call {fault:?}");
                    for after in [Some(0), None] {
                        let site = shop().await;
                        let visitor = client.come(&site).await;
                        let waits = waits(&site, visitor, operation, (after, fault)).await;
                        assert_in_time(&waits, &what);
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_it_does_where_the_store_falls_silent_amid() {
    let fault = Fault::Slow(100 * DEADLINE);
    for operation in OPERATIONS {
        for client in CLIENTS {
            for calls in 0..8 {
                let site = shop().await;
                let visitor = client.come(&site).await;
                let what = format!("{operation:?} of a {client:?}, silent after {calls} calls");
                let waits = waits(&site, visitor, operation, (Some(calls), fault)).await;
                assert_in_time(&waits, &what);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_it_does_where_others_are_faster_all_the_time() {
    use Operation::{LogIn, LogOut, None, RevokeAll};
    for operation in [LogIn, LogOut, RevokeAll, None] {
        for calls in [0, 2] {
            let site = shop().await;
            let visitor = Client::User.come(&site).await;
            let what = format!("{operation:?}, contested after {calls} calls");
            let waits = waits(&site, visitor, operation, (Some(calls), Fault::Contested)).await;
            assert_in_time(&waits, &what);
        }
    }
}

/// Nothing but its use is to be noted: the answer is the handler's.
#[tokio::test(start_paused = true)]
async fn a_lifetime_that_cannot_be_extended_costs_one_deadline_and_no_answer() {
    let site = shop().await;
    let mut visitor = Client::Guest.come(&site).await;
    site.clock.advance(TTL / 2);
    let store = Arc::clone(&site.store);
    let handler = async move |_: Session<Shop>| {
        store.always(Some(Fault::Slow(100 * DEADLINE)));
        "read"
    };
    let begun = Instant::now();
    assert_eq!(visitor.visit(handler).await.body, "read");
    assert!(begun.elapsed() <= DEADLINE + GRACE, "{:?}", begun.elapsed());
}

/// Counts what another handle of the request is doing as a part of the wait.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_save_of_another_handle_waits_one_deadline_for_both() {
    for tenths in TENTHS {
        let site = shop().await;
        let mut visitor = Client::User.come(&site).await;
        let store = Arc::clone(&site.store);
        let handler = async move |mut handles: Handles| {
            let (mut one, mut other) = (handles.open::<Shop>().await, handles.open::<Shop>().await);
            bring_more(&mut one);
            bring_more(&mut other);
            store.always(Some(Fault::Slow(DEADLINE * tenths / 10)));
            let begun = Instant::now();
            let _ = tokio::join!(one.save(), other.save());
            assert!(begun.elapsed() <= DEADLINE + GRACE, "{:?}", begun.elapsed());
            store.heal();
        };
        assert!(visitor.visit(handler).await.status != StatusCode::INTERNAL_SERVER_ERROR);
    }
}
