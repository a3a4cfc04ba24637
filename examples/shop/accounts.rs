//! Who has an account. A file of its own beside the sessions: those come and go.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::args::Ledger;
use crate::credentials::{Name, Password};

/// A user's number is drawn at random, so that no two users ever have one: the second would find the first one's cart, also where
/// the accounts are begun anew, or two shops that share their sessions have accounts of their own.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS users (
        id       INTEGER PRIMARY KEY,
        name     TEXT NOT NULL,        -- as it is shown
        folded   TEXT NOT NULL UNIQUE, -- as it is compared
        password TEXT NOT NULL,        -- hash, salt and parameters
        closed   INTEGER NOT NULL DEFAULT FALSE -- its owner is leaving
    ) STRICT;
    CREATE TABLE IF NOT EXISTS tries (
        folded   TEXT PRIMARY KEY,
        count    INTEGER NOT NULL,
        until    INTEGER NOT NULL      -- milliseconds since 1970
    ) STRICT;
    CREATE INDEX IF NOT EXISTS tries_by_end ON tries (until);
";

/// How often a password may be tried for one name, from however many browsers, within [`WINDOW`].
///
/// Names that nobody has are counted like the others, or the limit would tell them apart. Whoever knows a name can
/// lock it for a quarter of an hour, for signing in and for leaving: sessions that are open stay so.
const MOST_TRIES: i64 = 20;
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// How many passwords are looked at in one moment. Each takes 19 MiB.
const DESKS: usize = 4;

/// How long to wait for another shop that writes to the same file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The accounts. Clones share them.
#[derive(Clone)]
pub(crate) struct Accounts(Arc<Inner>);

struct Inner {
    db: Mutex<Connection>,
    desks: Arc<Semaphore>,
    /// Looked at where there is no account, so that this takes as long.
    decoy: String,
}

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
}

/// What came of a name and a password.
#[derive(Debug)]
pub(crate) enum Entry {
    Granted(User),
    /// There is no such name, or it has another password.
    Wrong,
    /// The name was tried too often, and may be tried again then.
    Closed(SystemTime),
}

/// The accounts' file, or the operating system, does not do what is asked.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Accounts {
    pub(crate) fn open(ledger: &Ledger) -> Result<Self, Fault> {
        let db = match ledger {
            Ledger::Memory => Connection::open_in_memory()?,
            Ledger::File(path) => {
                make(path)?;
                Connection::open(path)?
            }
        };
        db.busy_timeout(PATIENCE)?;
        db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(TABLES)?;
        Ok(Self(Arc::new(Inner {
            db: Mutex::new(db),
            desks: Arc::new(Semaphore::new(DESKS)),
            decoy: Password::new("nobody's").hash()?,
        })))
    }

    /// A new account; `None` if the name is taken.
    pub(crate) async fn register(
        &self,
        name: Name,
        password: Password,
    ) -> Result<Option<User>, Fault> {
        self.at_a_desk(move |inner| inner.register(&name, &password))
            .await
    }

    /// Finds out if this is the name's password. Counts the try before it is made, so that those made at once all count.
    pub(crate) async fn enter(&self, name: Name, password: Password) -> Result<Entry, Fault> {
        self.at_a_desk(move |inner| inner.enter(&name, &password))
            .await
    }

    /// Lets nobody in to the account any more, if this is its password. Counts the try as [`enter`](Self::enter)
    /// does. It is there until it is [forgotten](Self::forget), so that what has to be done before is done.
    pub(crate) async fn close(&self, id: i64, password: Password) -> Result<bool, Fault> {
        self.at_a_desk(move |inner| inner.close(id, &password))
            .await
    }

    /// Returns `true` if it is there, and not closed.
    pub(crate) async fn is_open(&self, id: i64) -> Result<bool, Fault> {
        self.at_a_desk(move |inner| inner.is_open(id)).await
    }

    /// The accounts that are closed, and not yet forgotten.
    pub(crate) async fn closed(&self) -> Result<Vec<i64>, Fault> {
        self.at_a_desk(Inner::closed).await
    }

    /// Deletes the account.
    pub(crate) async fn forget(&self, id: i64) -> Result<(), Fault> {
        self.at_a_desk(move |inner| inner.forget(id)).await
    }

    /// Runs what waits for the file or calculates for long where it holds up nobody else.
    async fn at_a_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let desk = Arc::clone(&self.0.desks).acquire_owned().await?;
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || {
            // Until the work is done, also if nobody waits for it any more.
            let _desk = desk;
            work(&inner)
        })
        .await?
    }
}

impl Inner {
    fn register(&self, name: &Name, password: &Password) -> Result<Option<User>, Fault> {
        let hash = password.hash()?;
        let id = self.with(|db| {
            db.query_row(
                "INSERT INTO users (id, name, folded, password) VALUES (abs(random() >> 1), ?1, ?2, ?3)
                 ON CONFLICT (folded) DO NOTHING RETURNING id",
                params![name.shown(), name.folded(), hash],
                |row| row.get(0),
            )
            .optional()
        })?;
        Ok(id.map(|id| User {
            id,
            name: name.shown().to_owned(),
        }))
    }

    fn enter(&self, name: &Name, password: &Password) -> Result<Entry, Fault> {
        let folded = name.folded();
        let (count, until) = self.with(|db| count_try(db, folded, SystemTime::now()))?;
        if count > MOST_TRIES {
            return Ok(Entry::Closed(until));
        }
        let found = self.with(|db| {
            db.query_row(
                "SELECT id, name, password FROM users WHERE folded = ?1 AND NOT closed",
                [folded],
                |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)),
            )
            .optional()
        })?;
        let (found, hash): (_, Option<String>) = found.unzip();
        let fits = password.fits(hash.as_ref().unwrap_or(&self.decoy))?;
        match found.filter(|_| fits) {
            None => Ok(Entry::Wrong),
            Some((id, shown)) => {
                self.forget_tries(folded)?;
                Ok(Entry::Granted(User { id, name: shown }))
            }
        }
    }

    fn close(&self, id: i64, password: &Password) -> Result<bool, Fault> {
        let found = self.with(|db| {
            let by_id = "SELECT folded, password FROM users WHERE id = ?1";
            let found = db.query_row(by_id, [id], |row| Ok((row.get(0)?, row.get(1)?)));
            found.optional()
        })?;
        let Some((folded, hash)): Option<(String, String)> = found else {
            return Ok(true); // by another tab
        };
        let (count, _) = self.with(|db| count_try(db, &folded, SystemTime::now()))?;
        if count > MOST_TRIES || !password.fits(&hash)? {
            return Ok(false);
        }
        self.forget_tries(&folded)?;
        self.with(|db| db.execute("UPDATE users SET closed = TRUE WHERE id = ?1", [id]))?;
        Ok(true)
    }

    fn is_open(&self, id: i64) -> Result<bool, Fault> {
        let open = "SELECT EXISTS (SELECT 1 FROM users WHERE id = ?1 AND NOT closed)";
        self.with(|db| db.query_row(open, [id], |row| row.get(0)))
    }

    fn closed(&self) -> Result<Vec<i64>, Fault> {
        self.with(|db| {
            let mut found = db.prepare("SELECT id FROM users WHERE closed")?;
            found.query_map([], |row| row.get(0))?.collect()
        })
    }

    fn forget(&self, id: i64) -> Result<(), Fault> {
        self.with(|db| db.execute("DELETE FROM users WHERE id = ?1", [id]))?;
        Ok(())
    }

    fn forget_tries(&self, folded: &str) -> Result<(), Fault> {
        self.with(|db| db.execute("DELETE FROM tries WHERE folded = ?1", [folded]))?;
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        // Each statement is a transaction: whoever panicked left none half done.
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work(&db)?)
    }
}

/// Counts a try of the name, and returns how often it was tried, this time included, and until when that counts.
fn count_try(
    db: &Connection,
    folded: &str,
    now: SystemTime,
) -> rusqlite::Result<(i64, SystemTime)> {
    db.execute("DELETE FROM tries WHERE until <= ?1", [millis(now)])?;
    db.query_row(
        "INSERT INTO tries (folded, count, until) VALUES (?1, 1, ?2)
         ON CONFLICT (folded) DO UPDATE SET count = count + 1 RETURNING count, until",
        params![folded, millis(now + WINDOW)],
        |row| {
            let until = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            let until = SystemTime::UNIX_EPOCH + Duration::from_millis(until);
            Ok((row.get(0)?, until))
        },
    )
}

fn millis(moment: SystemTime) -> i64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Makes the file if there is none, for this user's eyes only.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn accounts() -> Accounts {
        Accounts::open(&Ledger::Memory).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    async fn register(accounts: &Accounts, who: &str) -> Option<User> {
        let password = Password::new("grey herons");
        accounts.register(name(who), password).await.unwrap()
    }

    async fn enter(accounts: &Accounts, who: &str, password: &str) -> Entry {
        let password = Password::new(password);
        accounts.enter(name(who), password).await.unwrap()
    }

    #[tokio::test]
    async fn one_name_is_one_account_in_any_case() {
        let accounts = accounts();
        let ada = register(&accounts, "Ada").await.unwrap();
        assert!(register(&accounts, " ada").await.is_none());
        let Entry::Granted(user) = enter(&accounts, "ADA", "grey herons").await else {
            panic!("she is not let in");
        };
        assert_eq!((user.id, user.name.as_str()), (ada.id, "Ada"));
        for (who, password) in [("Ada", "Grey herons"), ("Eda", "grey herons")] {
            let entry = enter(&accounts, who, password).await;
            assert!(matches!(entry, Entry::Wrong), "{entry:?}");
        }
    }

    #[tokio::test]
    async fn nobody_gets_the_number_of_someone_who_left() {
        let accounts = accounts();
        let ada = register(&accounts, "Ada").await.unwrap();
        let close = async |password| {
            let closed = accounts.close(ada.id, Password::new(password)).await;
            closed.unwrap()
        };
        assert!(!close("wrong").await);
        assert!(accounts.is_open(ada.id).await.unwrap());
        assert_eq!(accounts.closed().await.unwrap(), [0; 0]);
        for _ in 0..2 {
            assert!(close("grey herons").await, "also if it is closed already");
            assert_eq!(accounts.closed().await.unwrap(), [ada.id]);
            assert!(!accounts.is_open(ada.id).await.unwrap());
        }
        let entry = enter(&accounts, "Ada", "grey herons").await;
        assert!(matches!(entry, Entry::Wrong), "{entry:?}");
        assert!(register(&accounts, "Ada").await.is_none(), "not yet");
        accounts.forget(ada.id).await.unwrap();
        assert!(!accounts.is_open(ada.id).await.unwrap());
        assert!(close("grey herons").await, "also if it is gone");
        assert_ne!(register(&accounts, "Ada").await.unwrap().id, ada.id);
    }

    #[tokio::test]
    async fn no_two_books_of_accounts_give_one_number() {
        let (one, other) = (accounts(), accounts());
        for who in ["Ada", "Bob"] {
            let ids = [&one, &other].map(|accounts| register(accounts, who));
            let [one, other] = ids;
            assert_ne!(one.await.unwrap().id, other.await.unwrap().id);
        }
    }

    #[tokio::test]
    async fn a_name_is_tried_so_often_and_no_more_whether_there_is_one_or_not() {
        let accounts = accounts();
        register(&accounts, "Ada").await.unwrap();
        for who in ["Ada", "Nobody"] {
            let mut tries = JoinSet::new();
            for _ in 0..MOST_TRIES + 5 {
                let accounts = accounts.clone();
                tries.spawn(async move { enter(&accounts, who, "wrong").await });
            }
            let mut wrong = 0;
            while let Some(entry) = tries.join_next().await {
                wrong += i64::from(matches!(entry.unwrap(), Entry::Wrong));
            }
            assert_eq!(wrong, MOST_TRIES, "{who}");
            let Entry::Closed(until) = enter(&accounts, who, "grey herons").await else {
                panic!("{who} can be tried on");
            };
            let left = until.duration_since(SystemTime::now()).unwrap();
            assert!(left <= WINDOW && WINDOW < left + PATIENCE * 12, "{left:?}");
        }
    }

    #[tokio::test]
    async fn the_right_password_ends_the_count() {
        let accounts = accounts();
        register(&accounts, "Ada").await.unwrap();
        for _ in 0..2 {
            for _ in 1..MOST_TRIES {
                enter(&accounts, "Ada", "wrong").await;
            }
            let entry = enter(&accounts, "Ada", "grey herons").await;
            assert!(matches!(entry, Entry::Granted(_)), "{entry:?}");
        }
    }

    #[test]
    fn tries_lapse() {
        let accounts = accounts();
        let now = SystemTime::now();
        let count = |now| {
            let counted = accounts.0.with(|db| count_try(db, "ada", now));
            counted.unwrap().0
        };
        assert_eq!((count(now), count(now + WINDOW / 2)), (1, 2));
        assert_eq!(count(now + WINDOW), 1);
    }
}
