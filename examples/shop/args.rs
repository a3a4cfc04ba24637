//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::checkout::Patience;

/// What `--help` says.
pub(crate) const USAGE: &str = "\
Usage: shop [--store STORE] [--address HOST:PORT] [--hurry SECONDS]

  --store sqlite:PATH   sessions in a file, kept across restarts (default: sqlite:shop.db)
  --store memory        sessions in memory, gone when the shop closes
  --address HOST:PORT   where to listen (default: 127.0.0.1:3000; port 0 takes any free one)
  --hurry SECONDS       checkouts lapse after so long instead of 15 minutes, to see it happen
  --help                this text
";

/// What the shop was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) store: Place,
    pub(crate) address: String,
    pub(crate) patience: Patience,
}

/// Where sessions are kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Sqlite(PathBuf),
}

impl Args {
    /// `None` if help was asked for.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = Self {
            store: Place::Sqlite("shop.db".into()),
            address: "127.0.0.1:3000".to_owned(),
            patience: Patience::default(),
        };
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
                "--store" => args.store = place(&value()?)?,
                "--address" => args.address = value()?,
                "--hurry" => args.patience = patience(&value()?)?,
                _ => return Err(format!("`{option}` is no option of the shop")),
            }
        }
        Ok(Some(args))
    }
}

fn place(text: &str) -> Result<Place, String> {
    match text.split_once(':') {
        None if text == "memory" => Ok(Place::Memory),
        Some(("sqlite", path)) if !path.is_empty() => Ok(Place::Sqlite(path.into())),
        Some(("sqlite", _)) => Err("`--store sqlite:` lacks the path of its file".to_owned()),
        _ => Err(format!(
            "`{text}` is no store: `memory` is one, and `sqlite:` followed by a path"
        )),
    }
}

fn patience(text: &str) -> Result<Patience, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Patience::of(Duration::from_secs(seconds))),
        _ => Err(format!("`--hurry {text}` is no number of seconds")),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory, until the shop closes"),
            Self::Sqlite(path) => write!(f, "the file {}", path.display()),
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
        assert_eq!(args.address, "127.0.0.1:3000");
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
    fn what_is_wrong_is_named() {
        let refusal = |line| parse(line).unwrap_err();
        assert!(refusal("--sotre memory").contains("`--sotre`"));
        assert!(refusal("--store").contains("lacks its value"));
        assert!(refusal("--store mongo:x").contains("`mongo:x` is no store"));
        assert!(refusal("--store sqlite:").contains("path"));
        assert!(refusal("--hurry soon").contains("seconds"));
        assert_eq!(parse("--store memory --help"), Ok(None));
    }
}
