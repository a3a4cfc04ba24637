//! What follows a user, in the app's own table: the very code of the example, under a layer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;
use rusqlite::Connection;
use session_runtime::store::{Record, Store, StoreError, UserStore, Version};
use session_runtime::{Ended, Error, Key, Saved, Session, UserId};
use session_tests::{Logs, Site, Visitor};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::table::Members;

#[derive(Session)]
struct Reader {
    #[merge(sum)]
    pages: u32,
    theme: Option<String>,
}

/// A library: sessions in memory, members in a file.
struct Library {
    members: Members,
    site: Site,
    folder: TempDir,
}

impl Library {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let members = Members::open(folder.path().join("db")).unwrap();
        assert!(members.join("ada").await.unwrap());
        let site = Site::in_memory().with(|layer| layer.users(members.clone()));
        Self {
            members,
            site,
            folder,
        }
    }

    /// The same members and sessions, by another process.
    fn branch(&self) -> Visitor {
        let members = Members::open(self.folder.path().join("db")).unwrap();
        Visitor::of(self.site.other_process().users(members))
    }

    async fn column(&self) -> Option<Vec<u8>> {
        self.members.load(&UserId::from("ada")).await.unwrap()
    }
}

async fn read(visitor: &mut Visitor, pages: u32) -> StatusCode {
    let handler = async move |mut session: Session<Reader>| *session.pages.get_mut() += pages;
    visitor.visit(handler).await.status
}

async fn login(visitor: &mut Visitor) -> StatusCode {
    let handler = async |mut session: Session<Reader>| session.login("ada").await;
    visitor.visit(handler).await.status
}

async fn shown(visitor: &mut Visitor) -> String {
    let handler = async |session: Session<Reader>| {
        format!("{} {}", session.user().is_some(), session.pages.get())
    };
    visitor.visit(handler).await.body
}

#[tokio::test]
async fn what_follows_a_member_is_in_the_apps_table_and_nowhere_else() {
    let library = Library::open().await;
    let (mut phone, mut laptop) = (library.site.visitor(), library.branch());
    read(&mut phone, 3).await;
    assert_eq!(login(&mut phone).await, StatusCode::OK);
    assert_eq!(login(&mut laptop).await, StatusCode::OK);
    read(&mut laptop, 4).await;
    assert_eq!(shown(&mut phone).await, "true 7");
    let column = library.column().await.unwrap();
    let record = Record::from_bytes(&column.into()).unwrap();
    assert!(record.slot("pages").is_some());
    let user = Key::User("ada".into());
    assert_eq!(library.site.store.load(&user).await.unwrap(), None);
}

/// A table whose `replace` forgets to write the version: the column stays NULL.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<Option<Vec<u8>>>>);

impl UserStore for Forgetful {
    async fn load(&self, _: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn replace(
        &self,
        _: &UserId,
        before: Option<Version>,
        _: Version,
        record: Vec<u8>,
    ) -> Result<bool, StoreError> {
        if before.is_none() {
            *self.0.lock().unwrap() = Some(record);
        }
        Ok(before.is_none())
    }
}

#[tokio::test]
async fn a_table_that_forgets_versions_is_told_of_at_once() {
    let logs = Logs::capture();
    let table = Forgetful::default();
    let site = Site::in_memory().with(|layer| layer.users(table.clone()));
    let mut phone = site.visitor();
    assert_eq!(login(&mut phone).await, StatusCode::OK);
    assert_eq!(read(&mut phone, 1).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(logs.lines("WARN", "`UserStore` has not replaced"), 2);
    assert_eq!(logs.lines("ERROR", "does not swap what it shows"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_write_at_once_lose_nothing() {
    const EACH: u32 = 25;
    let library = Library::open().await;
    let mut devices = JoinSet::new();
    for n in 0..4 {
        let mut visitor = match n % 2 {
            0 => library.site.visitor(),
            _ => library.branch(),
        };
        devices.spawn(async move {
            assert_eq!(login(&mut visitor).await, StatusCode::OK);
            for _ in 0..EACH {
                assert_eq!(read(&mut visitor, 1).await, StatusCode::OK);
            }
        });
    }
    while let Some(device) = devices.join_next().await {
        device.unwrap();
    }
    let mut visitor = library.site.visitor();
    login(&mut visitor).await;
    assert_eq!(shown(&mut visitor).await, format!("true {}", 4 * EACH));
}

#[tokio::test]
async fn what_another_process_keeps_locked_is_known_not_to_be_written() {
    let library = Library::open().await;
    let other = Connection::open(library.folder.path().join("db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = library.members.join("bob").await.expect_err("it is locked");
    assert!(error.is_transient() && !error.is_unknown(), "{error:?}");
}

#[tokio::test]
async fn the_app_changes_what_follows_a_member_and_makes_no_row() {
    let library = Library::open().await;
    let sessions = library.site.layer.sessions();
    // A member who has never logged in.
    let mut ada = sessions.with_user::<Reader>("ada").await.unwrap();
    *ada.pages.get_mut() += 3;
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    let mut phone = library.branch();
    assert_eq!(login(&mut phone).await, StatusCode::OK);
    assert_eq!(shown(&mut phone).await, "true 3");
    *ada.pages.get_mut() += 4;
    assert_eq!(ada.save().await.unwrap(), Saved::Written);
    assert_eq!(shown(&mut phone).await, "true 7");

    let mut bob = sessions.with_user::<Reader>("bob").await.unwrap();
    *bob.pages.get_mut() += 3;
    assert!(bob.save().await.unwrap_err().is_unavailable());
    let bob = library.members.load(&UserId::from("bob")).await.unwrap();
    assert_eq!(bob, None);
}

/// How the calls of a table fail.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// One has no effect.
    Before,
    /// One has its effect, and the answer is lost.
    After,
    /// From one on, all have no effect.
    Down,
}

/// A table whose calls fail, from some call on.
struct Faulty {
    members: Members,
    /// How many calls go well; one less with each.
    left: Arc<AtomicI64>,
    fault: Fault,
}

impl Faulty {
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        match (self.fault, left) {
            (Fault::Before, 0) | (Fault::Down, ..=0) => Err(StoreError::unavailable("before")),
            (Fault::After, 0) => {
                call.await?;
                Err(StoreError::unavailable("after"))
            }
            _ => call.await,
        }
    }
}

impl UserStore for Faulty {
    async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(self.members.load(user)).await
    }

    async fn replace(
        &self,
        user: &UserId,
        before: Option<Version>,
        after: Version,
        record: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.call(self.members.replace(user, before, after, record))
            .await
    }
}

/// Time is paused: it moves on when nothing can be done, so a deadline costs nothing and is never too short.
#[tokio::test(start_paused = true)]
async fn a_guest_is_credited_once_whichever_call_of_the_table_breaks() {
    let mut unanswered = 0;
    for (call, fault) in (0..6)
        .flat_map(|call| [Fault::Before, Fault::After, Fault::Down].map(|fault| (call, fault)))
    {
        let library = Library::open().await;
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let faulty = Faulty {
            members: library.members.clone(),
            left: Arc::clone(&left),
            fault,
        };
        let site = Site::in_memory().with(|layer| layer.users(faulty));
        let mut visitor = site.visitor();
        read(&mut visitor, 5).await;
        left.store(call, Ordering::SeqCst);
        let answered = login(&mut visitor).await;
        left.store(i64::MAX, Ordering::SeqCst);
        if answered != StatusCode::OK {
            assert_eq!(
                answered,
                StatusCode::SERVICE_UNAVAILABLE,
                "{call} {fault:?}"
            );
            unanswered += 1;
            assert_eq!(
                login(&mut visitor).await,
                StatusCode::OK,
                "{call} {fault:?}"
            );
        }
        assert_eq!(shown(&mut visitor).await, "true 5", "{call} {fault:?}");
    }
    // A login loads the user's record, and swaps it.
    assert!(unanswered >= 2, "{unanswered}");
}

#[tokio::test]
async fn a_member_who_was_struck_off_is_not_brought_back() {
    let library = Library::open().await;
    let (mut phone, mut laptop) = (library.site.visitor(), library.site.visitor());
    login(&mut phone).await;
    read(&mut phone, 3).await;
    let members = library.members.clone();
    let late = async move |mut session: Session<Reader>| {
        *session.pages.get_mut() += 1;
        assert!(members.leave("ada").await.unwrap());
    };
    assert_eq!(phone.visit(late).await.status, StatusCode::OK);
    assert_eq!(library.column().await, None);
    // Who has no place in the user's record has no access.
    assert_eq!(shown(&mut phone).await, "false 0");
    read(&mut laptop, 2).await;
    assert_eq!(login(&mut laptop).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shown(&mut laptop).await, "false 2", "the guest goes on");
    // In another tab, say, whose member had left before.
    library.site.layer.sessions().delete("ada").await.unwrap();
    assert_eq!(library.column().await, None);
}

#[tokio::test]
async fn deleting_what_follows_a_member_leaves_a_tombstone_and_ends_the_sessions() {
    let library = Library::open().await;
    let mut phone = library.site.visitor();
    login(&mut phone).await;
    read(&mut phone, 3).await;
    let sessions = library.site.layer.sessions();
    sessions.delete("ada").await.unwrap();
    let column = library.column().await.unwrap();
    let left = Record::from_bytes(&column.into()).unwrap();
    assert!(left.ended().is_some() && left.slot("pages").is_none());
    let why = async |session: Session<Reader>| {
        assert_eq!(session.ended(), Some(Ended::Revoked));
        assert_eq!(session.theme.get(), &None);
    };
    assert_eq!(phone.visit(why).await.status, StatusCode::OK);
    assert_eq!(login(&mut phone).await, StatusCode::OK);
    assert_eq!(shown(&mut phone).await, "true 0");
}

#[tokio::test]
async fn a_column_that_holds_something_else_is_told_and_kept() {
    let library = Library::open().await;
    let (ada, junk) = (UserId::from("ada"), b"junk".as_slice());
    let version = Version::from_bytes([1; 8]);
    let replaced = library.members.replace(&ada, None, version, junk.to_vec());
    assert!(replaced.await.unwrap());
    let mut visitor = library.site.visitor();
    let handler = async |mut session: Session<Reader>| -> Result<(), Error> {
        let failed = session.login("ada").await.unwrap_err();
        assert!(failed.is_unavailable());
        Err(failed)
    };
    let reply = visitor.visit(handler).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(library.column().await.as_deref(), Some(junk));
}
