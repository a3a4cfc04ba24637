//! Where sessions are kept.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use session_runtime::SessionLayer;
#[cfg(feature = "mysql")]
use session_runtime::store::MysqlStore;
#[cfg(feature = "postgres")]
use session_runtime::store::PostgresStore;
#[cfg(feature = "redis")]
use session_runtime::store::RedisStore;
use session_runtime::store::{MemoryStore, SqliteStore};

/// What the shop's keys begin with, on a server that others use too.
#[cfg(feature = "redis")]
const PREFIX: &str = "shop:";

/// The shop's table, in a database that others use too.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const TABLE: &str = "shop_sessions";

/// A store, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Sqlite(PathBuf),
    Redis(Url),
    Postgres(Url),
    Mysql(Url),
}

/// A server's address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(String);

impl Url {
    /// All of it, for whoever connects.
    #[cfg_attr(
        not(any(feature = "redis", feature = "postgres", feature = "mysql")),
        expect(dead_code)
    )]
    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    /// Without user and parameters: either may have the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://") {
            Some((scheme, rest)) => {
                let (server, parameters) = rest.split_once('?').unwrap_or((rest, ""));
                let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
                // Else it may be a password that the `?` is in.
                let is_plain = !parameters.contains('@');
                write!(f, "{scheme}://{}", if is_plain { server } else { "…" })
            }
            None => f.write_str("(no URL)"),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Place {
    /// Reads `memory`, `sqlite:PATH` or a URL. What it complains of is not quoted beyond its scheme: there may be a
    /// password in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        match scheme {
            "memory" if text == "memory" => Ok(Self::Memory),
            "sqlite" if rest.is_empty() => {
                Err("`--store sqlite:` lacks the path of its file".to_owned())
            }
            "sqlite" => Ok(Self::Sqlite(rest.into())),
            "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" if rest.starts_with("//") => {
                Ok(Self::Redis(Url(text.to_owned())))
            }
            "postgres" | "postgresql" if rest.starts_with("//") => {
                Ok(Self::Postgres(Url(text.to_owned())))
            }
            "mysql" if rest.starts_with("//") => Ok(Self::Mysql(Url(text.to_owned()))),
            "redis" | "rediss" | "postgres" | "postgresql" | "mysql" => Err(format!(
                "`--store {scheme}` lacks the server's address, as in `{scheme}://127.0.0.1`"
            )),
            _ => Err(format!(
                "`{scheme}` is no store: `memory` is one, `sqlite:` followed by a path, and `redis://`, `postgres://` \
                 or `mysql://` followed by a server"
            )),
        }
    }

    /// Opens it, or connects to it. A server may take so long to answer.
    #[cfg_attr(
        not(any(feature = "redis", feature = "postgres", feature = "mysql")),
        expect(clippy::unused_async, unused_variables)
    )]
    pub(crate) async fn open(&self, patience: Duration) -> Result<SessionLayer, String> {
        match self {
            Self::Memory => Ok(SessionLayer::new(MemoryStore::new())),
            Self::Sqlite(path) => Ok(SessionLayer::new(SqliteStore::open(path).map_err(told)?)),
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                let options = RedisStore::options().prefix(PREFIX).timeout(patience);
                let store = options.connect(url.expose()).await.map_err(told)?;
                Ok(SessionLayer::new(store))
            }
            #[cfg(not(feature = "redis"))]
            Self::Redis(_) => {
                Err("this shop knows no such server: run it with `--features redis`".to_owned())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let options = PostgresStore::options().table(TABLE).wait(patience);
                let store = options.connect(url.expose()).map_err(told)?;
                store.migrate().await.map_err(told)?;
                Ok(SessionLayer::new(store))
            }
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => {
                Err("this shop knows no such server: run it with `--features postgres`".to_owned())
            }
            #[cfg(feature = "mysql")]
            Self::Mysql(url) => {
                let options = MysqlStore::options().table(TABLE).wait(patience);
                let store = options.connect(url.expose()).map_err(told)?;
                store.migrate().await.map_err(told)?;
                Ok(SessionLayer::new(store))
            }
            #[cfg(not(feature = "mysql"))]
            Self::Mysql(_) => {
                Err("this shop knows no such server: run it with `--features mysql`".to_owned())
            }
        }
    }
}

/// An error and what it came from, each thing said once.
fn told(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory, until the shop closes"),
            Self::Sqlite(path) => write!(f, "the file {}", path.display()),
            Self::Redis(url) => write!(f, "Redis at {url}"),
            Self::Postgres(url) => write!(f, "PostgreSQL at {url}"),
            Self::Mysql(url) => write!(f, "MySQL at {url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_has_its_name() {
        let shown = |text| Place::parse(text).unwrap().to_string();
        assert_eq!(Place::parse("memory"), Ok(Place::Memory));
        assert_eq!(shown("sqlite:a:b.db"), "the file a:b.db");
        assert_eq!(shown("redis://127.0.0.1/3"), "Redis at redis://127.0.0.1/3");
        let sentinels = shown("redis+sentinel://:heron@a,b/tea?sentinel_password=heron");
        assert_eq!(sentinels, "Redis at redis+sentinel://a,b/tea");
    }

    #[test]
    fn what_is_no_store_is_named() {
        let refusal = |text| Place::parse(text).unwrap_err();
        assert!(refusal("mongo:x").contains("`mongo` is no store"));
        assert!(refusal("memory:").contains("is no store"));
        assert!(refusal("sqlite:").contains("path"));
        assert!(refusal("redis:127.0.0.1").contains("`redis://"));
        assert!(refusal("postgres").contains("`postgres://"));
        assert!(refusal("mysql:127.0.0.1").contains("`mysql://"));
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let place = Place::parse("redis://ada:heron@tide@db.example:6379").unwrap();
        assert_eq!(place.to_string(), "Redis at redis://db.example:6379");
        assert!(!format!("{place:?}").contains("heron"));
        for (url, shown) in [
            (
                "postgres://ada:heron@db/shop?sslmode=disable",
                "postgres://db/shop",
            ),
            ("postgres://db/shop?password=heron", "postgres://db/shop"),
            ("postgres://db/shop?password=tide@heron", "postgres://…"),
            ("postgres://ada:tide@her?on@db/shop", "postgres://…"),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!(place.to_string(), format!("PostgreSQL at {shown}"));
        }
        for text in ["redis:ada:heron@db", "mariadb://ada:heron@db"] {
            assert!(!Place::parse(text).unwrap_err().contains("heron"));
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_opened_says_why() {
        let refusal = async |text: &str| {
            let place = Place::parse(text).unwrap();
            let opened = place.open(Duration::from_secs(60)).await;
            opened.expect_err("it cannot be opened")
        };
        let file = refusal("sqlite:/no/such/folder/shop.db").await;
        assert!(file.contains("/no/such/folder/shop.db"), "{file}");
        for (scheme, here) in [
            ("redis", cfg!(feature = "redis")),
            ("postgres", cfg!(feature = "postgres")),
            ("mysql", cfg!(feature = "mysql")),
        ] {
            let nobody = refusal(&format!("{scheme}://ada:heron@127.0.0.1:1/0")).await;
            let reason = if here { "refused" } else { "--features" };
            assert!(nobody.contains(reason), "{nobody}");
            assert!(!nobody.contains("heron"), "{nobody}");
        }
    }
}
