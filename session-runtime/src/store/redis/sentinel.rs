//! Sentinels, and which server they call the primary of a service.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, PushKind, RedisResult, cmd};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::fault::{Failure, Unnamed};
use super::info::has_pushes;

/// Where a sentinel listens if its address names no port.
const PORT: &str = "26379";

/// For how long the newest configuration is believed against sentinels that do not know of it yet. They tell each other within
/// two seconds.
const BELIEVED: Duration = Duration::from_secs(10);

/// The events by which sentinels call another server the primary.
const EVENTS: [&str; 2] = ["+switch-master", "+promoted-slave"];

/// A `redis+sentinel://…`, parsed.
pub(super) struct SentinelUrl {
    pub(super) sentinels: Vec<String>,
    pub(super) service: String,
    /// How to be let in by the primary, wherever it is: a URL of some server.
    pub(super) primary: String,
}

impl SentinelUrl {
    /// Returns `None` if the URL names no sentinels, and an error if it does so in a form that is not known.
    pub(super) fn parse(url: &str) -> Option<Result<Self, ()>> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = match scheme {
            "redis+sentinel" => "redis",
            "rediss+sentinel" => "rediss",
            other => return other.contains("sentinel").then_some(Err(())),
        };
        Some(Self::of(scheme, rest).ok_or(()))
    }

    fn of(scheme: &str, rest: &str) -> Option<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/')?;
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() || hosts.split(',').any(str::is_empty) {
            return None;
        }

        let (mut name, mut password, mut others) = ("", "", Vec::new());
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sentinel_username", value)) => name = value,
                Some(("sentinel_password", value)) => password = value,
                _ => others.push(parameter),
            }
        }
        let others = others.join("&");
        let sentinels = hosts.split(',').map(|host| {
            let has_port = host
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.contains(']'));
            let port = if has_port {
                String::new()
            } else {
                format!(":{PORT}")
            };
            format!("{scheme}://{name}:{password}@{host}{port}?{others}")
        });
        Some(Self {
            sentinels: sentinels.collect(),
            service: service.to_owned(),
            primary: format!("{scheme}://{user}@{service}/{database}?{others}"),
        })
    }
}

/// The sentinels that watch over a service.
pub(super) struct Sentinels {
    each: Vec<Arc<Sentinel>>,
    service: String,
    /// How long an answer may take.
    patience: Duration,
    newest: Mutex<Option<Newest>>,
    /// Somebody has been made the primary.
    changed: Arc<Notify>,
}

/// Which server is the primary, as of a configuration. Each failover makes one with a higher number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    /// Orders them, so it comes first.
    epoch: u64,
    host: String,
    port: u16,
}

struct Newest {
    named: Named,
    since: Instant,
}

impl Sentinels {
    pub(super) fn new(
        sentinels: Vec<ConnectionInfo>,
        service: String,
        patience: Duration,
    ) -> RedisResult<Self> {
        let changed = Arc::new(Notify::new());
        let sentinel = |info| Sentinel::new(info, patience, Arc::clone(&changed)).map(Arc::new);
        Ok(Self {
            each: sentinels
                .into_iter()
                .map(sentinel)
                .collect::<RedisResult<_>>()?,
            service,
            patience,
            newest: Mutex::default(),
            changed,
        })
    }

    /// Returns what is rung when a sentinel calls another server the primary.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Returns the address of the primary.
    ///
    /// Asks all sentinels at once, and believes the newest configuration among those of more than half of them, or of as many
    /// as answer soon: one that is cut off from the others does not decide alone.
    pub(super) async fn primary(&self) -> Result<(String, u16), Failure> {
        let mut asked = JoinSet::new();
        for sentinel in &self.each {
            let (sentinel, service) = (Arc::clone(sentinel), self.service.clone());
            asked.spawn(async move { sentinel.ask(&service).await });
        }
        let (mut answers, mut named, mut fault) = (0, None, None);
        let mut until = Instant::now() + self.patience;
        while let Ok(Some(Ok(answer))) = timeout_at(until, asked.join_next()).await {
            match answer {
                Ok(answer) => {
                    answers += 1;
                    named = named.max(answer);
                    // Those that are away are not to keep this one waiting.
                    until = until.min(Instant::now() + self.patience / 4);
                }
                Err(error) => fault = Some(error),
            }
            if named.is_some() && answers > self.each.len() / 2 {
                break;
            }
        }
        // Whoever is slower may be just about to connect, for the next time.
        asked.detach_all();
        match (named, fault) {
            (Some(named), _) => Ok(self.believe(&named)),
            (None, Some(error)) if answers == 0 => Err(Failure::Unnamed(Unnamed::of(error))),
            (None, None) if answers == 0 => Err(Failure::TimedOut),
            _ => Err(Failure::Unnamed(Unnamed::Unknown)),
        }
    }

    /// Returns the address that counts: of the newest configuration.
    fn believe(&self, named: &Named) -> (String, u16) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_older = newest.as_ref().is_some_and(|newest| {
            named.epoch < newest.named.epoch && newest.since.elapsed() < BELIEVED
        });
        if !is_older {
            *newest = Some(Newest {
                named: named.clone(),
                since: Instant::now(),
            });
        }
        let newest = newest.as_ref().map_or(named, |newest| &newest.named);
        (newest.host.clone(), newest.port)
    }
}

impl fmt::Display for Sentinels {
    /// Writes the service and where the sentinels are; never what they are asked with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self
            .each
            .iter()
            .map(|sentinel| sentinel.client.get_connection_info().addr().to_string());
        write!(
            f,
            "`{}` by the sentinels at {}",
            self.service,
            at.collect::<Vec<_>>().join(", ")
        )
    }
}

struct Sentinel {
    client: Client,
    settings: AsyncConnectionConfig,
    patience: Duration,
    /// The last one, which may have broken since.
    connection: AsyncMutex<Option<MultiplexedConnection>>,
}

impl Sentinel {
    fn new(info: ConnectionInfo, patience: Duration, changed: Arc<Notify>) -> RedisResult<Self> {
        // Where nobody answers on the connection that is there, half of the time is left for another.
        let mut settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(Some(patience / 2));
        if has_pushes(&info) {
            settings = settings.set_push_sender(move |push: redis::PushInfo| {
                if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                    changed.notify_one();
                }
                Ok::<_, SendError>(())
            });
        }
        Ok(Self {
            client: Client::open(info)?,
            settings,
            patience,
            connection: AsyncMutex::default(),
        })
    }

    /// Asks which server is the primary; `None` if the sentinel knows no such service.
    async fn ask(&self, service: &str) -> RedisResult<Option<Named>> {
        // Somebody else may be asking it, and may wait in vain.
        let Ok(mut connection) = timeout(self.patience, self.connection.lock()).await else {
            return Err((ErrorKind::Io, "the sentinel does not answer").into());
        };
        if let Some(mut connected) = connection.clone()
            && let Ok(named) = named(&mut connected, service).await
        {
            return Ok(named);
        }
        *connection = None;
        let mut connected = self.connect().await?;
        let named = named(&mut connected, service).await?;
        *connection = Some(connected);
        Ok(named)
    }

    /// Connects, and has it tell of failovers, if it lets this client listen.
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&self.settings)
            .await?;
        if has_pushes(self.client.get_connection_info()) {
            drop(connection.subscribe(&EVENTS[..]).await);
        }
        Ok(connection)
    }
}

/// Asks for the configuration first and for the address then: so a failover in between is taken for older than it is, and
/// never for newer.
async fn named(
    connection: &mut MultiplexedConnection,
    service: &str,
) -> RedisResult<Option<Named>> {
    let mut about = cmd("SENTINEL");
    let about: RedisResult<HashMap<String, String>> = about
        .arg("MASTER")
        .arg(service)
        .query_async(connection)
        .await;
    let about = match about {
        Err(error)
            if error
                .detail()
                .is_some_and(|detail| detail.contains("No such master")) =>
        {
            return Ok(None);
        }
        about => about?,
    };
    let epoch = about
        .get("config-epoch")
        .and_then(|epoch| epoch.parse().ok());
    let mut address = cmd("SENTINEL");
    let address: Option<(String, u16)> = address
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(service)
        .query_async(connection)
        .await?;
    Ok(address.map(|(host, port)| Named {
        epoch: epoch.unwrap_or(0),
        host,
        port,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> SentinelUrl {
        SentinelUrl::parse(url)
            .expect("it names sentinels")
            .expect("in a form that is known")
    }

    #[test]
    fn a_url_names_sentinels_a_service_and_how_to_be_let_in() {
        let url = parsed(
            "redis+sentinel://ada:p%40ss@one:1,[::1],two/shop/3?sentinel_password=s&protocol=resp2",
        );
        assert_eq!(
            url.sentinels,
            [
                "redis://:s@one:1?protocol=resp2",
                "redis://:s@[::1]:26379?protocol=resp2",
                "redis://:s@two:26379?protocol=resp2",
            ]
        );
        assert_eq!(url.service, "shop");
        assert_eq!(url.primary, "redis://ada:p%40ss@shop/3?protocol=resp2");
        let url = parsed("rediss+sentinel://one/shop");
        assert_eq!(
            (url.sentinels[0].as_str(), url.primary.as_str()),
            ("rediss://:@one:26379?", "rediss://@shop/?")
        );
    }

    #[test]
    fn a_url_in_another_form_is_told_from_one_of_a_server() {
        for url in [
            "redis+sentinel://one:1",
            "redis+sentinel://one/",
            "redis+sentinel://one,/shop",
            "redis-sentinel://one/shop",
            "sentinel://one",
        ] {
            assert!(
                SentinelUrl::parse(url)
                    .expect("it names sentinels")
                    .is_err(),
                "{url}"
            );
        }
        for url in ["redis://one/0", "rediss://one", "one"] {
            assert!(SentinelUrl::parse(url).is_none(), "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_configuration_is_not_believed_for_a_while() {
        let sentinels =
            Sentinels::new(Vec::new(), "shop".to_owned(), Duration::from_secs(1)).expect("none");
        let named = |epoch, port| Named {
            epoch,
            host: "h".to_owned(),
            port,
        };
        assert_eq!(sentinels.believe(&named(1, 1)).1, 1);
        assert_eq!(sentinels.believe(&named(3, 3)).1, 3);
        assert_eq!(sentinels.believe(&named(1, 1)).1, 3);
        tokio::time::advance(BELIEVED).await;
        assert_eq!(sentinels.believe(&named(1, 1)).1, 1, "they have begun anew");
    }
}
