//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::checkout::Patience;
use crate::stores::Place;

/// In seconds. No calendar has a date for what is as far off as a number can be.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// What `--help` says.
pub(crate) const USAGE: &str = "\
Usage: shop [--store STORE] [--accounts FILE] [--address HOST:PORT] [--deadline SECONDS] [--hurry SECONDS]

  --store sqlite:PATH   sessions in a file, kept across restarts (default: sqlite:shop.db)
  --store redis://HOST  sessions on a Redis or Valkey server, which several shops may share
  --store redis+sentinel://HOST,HOST/SERVICE
                        the same on the primary that Redis sentinels name
  --store postgres://USER@HOST/DATABASE
                        sessions in PostgreSQL, which several shops may share, too
  --store mysql://USER@HOST/DATABASE
                        sessions in MySQL or MariaDB, the same
  --store memory        sessions in memory, gone when the shop closes
  --accounts FILE       who may sign in, with what password (default: in memory with `--store memory`, else
                        shop.accounts.db, beside the sessions if they are in a file)
  --address HOST:PORT   where to listen (default: 127.0.0.1:3000; port 0 takes any free one)
  --deadline SECONDS    how long a page may wait for the sessions (default: 2)
  --hurry SECONDS       checkouts lapse after so long instead of 15 minutes, to see it happen
  --help                this text
";

/// What the shop was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) store: Place,
    pub(crate) accounts: Ledger,
    pub(crate) address: String,
    pub(crate) deadline: Duration,
    pub(crate) patience: Patience,
}

/// Where accounts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ledger {
    Memory,
    File(PathBuf),
}

impl Args {
    /// `None` if help was asked for.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut store = Place::Sqlite("shop.db".into());
        let mut accounts = None;
        let mut address = "127.0.0.1:3000".to_owned();
        let mut deadline = Duration::from_secs(2);
        let mut patience = Patience::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                value
                    .clone()
                    .or_else(|| words.next())
                    .ok_or_else(|| format!("`{option}` lacks its value"))
            };
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--store" => store = Place::parse(&value()?)?,
                "--accounts" => accounts = Some(Ledger::File(value()?.into())),
                "--address" => address = value()?,
                "--deadline" => deadline = seconds(&option, &value()?)?,
                "--hurry" => patience = Patience::of(seconds(&option, &value()?)?),
                _ => return Err(format!("`{option}` is no option of the shop")),
            }
        }
        Ok(Some(Self {
            accounts: accounts.unwrap_or_else(|| Ledger::beside(&store)),
            store,
            address,
            deadline,
            patience,
        }))
    }
}

impl Ledger {
    /// Returns where accounts are kept unless told otherwise.
    fn beside(store: &Place) -> Self {
        match store {
            Place::Memory => Self::Memory,
            Place::Sqlite(path) => Self::File(path.with_extension("accounts.db")),
            Place::Redis(_) | Place::Postgres(_) | Place::Mysql(_) => {
                Self::File("shop.accounts.db".into())
            }
        }
    }
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (1..=YEAR).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "`{option} {text}` is no number of seconds up to a year's"
        )),
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory, until the shop closes"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_options_carts_are_kept_in_a_file() {
        let args = parse("").unwrap().unwrap();
        assert_eq!(args.store, Place::Sqlite("shop.db".into()));
        assert_eq!(args.accounts, Ledger::File("shop.accounts.db".into()));
        assert_eq!(args.address, "127.0.0.1:3000");
        assert_eq!(args.deadline, Duration::from_secs(2));
    }

    #[test]
    fn values_follow_an_equals_sign_or_a_space() {
        let spaced = parse("--store sqlite:/tmp/a=b.db --address 0.0.0.0:80 --hurry 3");
        let joined = parse("--store=sqlite:/tmp/a=b.db --address=0.0.0.0:80 --hurry=3");
        assert_eq!(spaced, joined);
        let args = joined.unwrap().unwrap();
        assert_eq!(args.store, Place::Sqlite("/tmp/a=b.db".into()));
        assert_eq!(args.patience, Patience::of(Duration::from_secs(3)));
    }

    #[test]
    fn accounts_are_kept_as_long_as_sessions_unless_told_otherwise() {
        let accounts = |line| parse(line).unwrap().unwrap().accounts;
        assert_eq!(accounts("--store memory"), Ledger::Memory);
        let beside = accounts("--store sqlite:/srv/tea.db");
        assert_eq!(beside, Ledger::File("/srv/tea.accounts.db".into()));
        let told = accounts("--accounts a.db --store memory");
        assert_eq!(told, Ledger::File("a.db".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |line: &str| parse(line).unwrap_err();
        assert!(refusal("--sotre memory").contains("`--sotre`"));
        assert!(refusal("--store").contains("lacks its value"));
        assert!(refusal("--store mongo:x").contains("`mongo` is no store"));
        for line in ["--deadline soon", "--hurry 0", "--hurry 99999999999999"] {
            let told = format!("`{line}` is no number of seconds up to a year's");
            assert_eq!(refusal(line), told);
        }
        assert_eq!(parse("--store memory --help"), Ok(None));
    }
}
