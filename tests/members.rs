//! What follows a user, in a column of the app's own table: the very code of the example.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use session_runtime::store::{MemoryStore, Store, StoreError, UserStore};
use session_runtime::{Ended, Error, Key, Session, UserId};
use session_tests::{Site, Visitor};
use tempfile::TempDir;
use tokio::task::JoinSet;

#[path = "../examples/members/table.rs"]
mod table;

use table::Members;

#[derive(Session)]
struct Reader {
    #[merge(sum)]
    pages: u32,
    theme: Option<String>,
}

/// A library: sessions in memory, members in a file.
struct Library {
    members: Members,
    site: Site<MemoryStore>,
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
        let layer = session_runtime::SessionLayer::new(Arc::clone(&self.site.store));
        Visitor::of(layer.clock(self.site.clock.clone()).users(members))
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
    assert!(column.windows(6).any(|part| part == b"pages\0"));
    let user = Key::User("ada".into());
    assert_eq!(library.site.store.load(&user).await.unwrap(), None);
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

/// A table one of whose calls fails, before or after it has had its effect.
struct Faulty {
    members: Members,
    left: Arc<AtomicUsize>,
    before: bool,
}

impl Faulty {
    /// Makes a call, unless it is the one that fails.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fails = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if fails && self.before {
            return Err(StoreError::broken("it breaks before"));
        }
        let made = call.await;
        if fails {
            return Err(StoreError::broken("it breaks after"));
        }
        made
    }
}

impl UserStore for Faulty {
    async fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(self.members.load(user)).await
    }

    async fn replace(
        &self,
        user: &UserId,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StoreError> {
        self.call(self.members.replace(user, old, new)).await
    }
}

#[tokio::test]
async fn a_guest_is_credited_once_whichever_call_of_the_table_breaks() {
    let mut broken = 0;
    for (call, before) in (1..=5).flat_map(|call| [(call, true), (call, false)]) {
        let library = Library::open().await;
        let left = Arc::new(AtomicUsize::new(0));
        let faulty = Faulty {
            members: library.members.clone(),
            left: Arc::clone(&left),
            before,
        };
        let site = Site::in_memory().with(|layer| layer.users(faulty));
        let mut visitor = site.visitor();
        read(&mut visitor, 5).await;
        left.store(call, Ordering::SeqCst);
        let answered = login(&mut visitor).await;
        left.store(0, Ordering::SeqCst);
        if answered != StatusCode::OK {
            broken += 1;
            site.clock.advance(std::time::Duration::from_secs(10));
            assert_eq!(login(&mut visitor).await, StatusCode::OK);
        }
        assert_eq!(shown(&mut visitor).await, "true 5", "{call} {before}");
    }
    assert!(broken >= 4, "{broken}");
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
    assert_eq!(shown(&mut phone).await, "true 0");
    read(&mut laptop, 2).await;
    assert_eq!(login(&mut laptop).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(shown(&mut laptop).await, "false 2", "the guest goes on");
}

#[tokio::test]
async fn deleting_what_follows_a_member_empties_the_column_and_ends_the_sessions() {
    let library = Library::open().await;
    let mut phone = library.site.visitor();
    login(&mut phone).await;
    read(&mut phone, 3).await;
    let sessions = library.site.layer.sessions();
    sessions.delete(&"ada".into()).await.unwrap();
    assert_eq!(library.column().await, None);
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
    assert!(
        library
            .members
            .replace(&ada, None, Some(junk))
            .await
            .unwrap()
    );
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
