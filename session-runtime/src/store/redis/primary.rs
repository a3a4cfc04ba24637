//! The connection to the primary of a service, wherever it is just now.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, PushInfo, PushKind, RedisError, Value, cmd,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::fault::{Failure, extracted};
use super::info::{at, has_pushes};
use super::sentinel::Sentinels;

/// How often a connection may be given up for a new one.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);

/// How often the sentinels are asked whether the primary is still the one that is connected to. They also tell of it by
/// themselves, as long as nothing is lost.
const PERIOD: Duration = Duration::from_secs(1);

/// The primary of a service.
///
/// A connection is never made anew to the same address without asking: a primary that comes back after a failover takes what
/// is written to it, until the sentinels make it a replica, and loses that then.
pub(super) struct Primary {
    sentinels: Sentinels,
    /// How to be let in, wherever it is.
    info: ConnectionInfo,
    /// How long connecting may take.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: Option<Connected>,
    /// Who looks for it already; all wait for the same.
    looking: Option<watch::Receiver<Option<Result<Connected, Failure>>>>,
    /// Where the sentinels have said last that it is.
    named: Option<String>,
    connections: u64,
}

#[derive(Clone)]
struct Connected {
    number: u64,
    since: Instant,
    address: (String, u16),
    connection: MultiplexedConnection,
}

impl Primary {
    pub(super) fn new(sentinels: Sentinels, info: ConnectionInfo, patience: Duration) -> Self {
        Self {
            sentinels,
            info,
            patience,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what another connection to it is made with.
    pub(super) async fn info(self: &Arc<Self>) -> Result<ConnectionInfo, Failure> {
        let (host, port) = self.connected().await?.address;
        Ok(at(&self.info, host, port))
    }

    /// Sends a command once, and waits for its answer.
    pub(super) async fn ask(self: &Arc<Self>, command: &Cmd) -> Result<Value, Failure> {
        let mut connected = self.connected().await?;
        let answer = extracted(connected.connection.req_packed_command(command)).await;
        if answer.as_ref().is_err_and(is_over) {
            self.give_up(connected.number);
        }
        answer.map_err(Failure::from)
    }

    /// Gives up a connection that leads nowhere, unless it is new.
    pub(super) fn renew(&self) {
        let mut state = self.state();
        if state
            .connected
            .as_ref()
            .is_some_and(|connected| connected.since.elapsed() >= RENEWAL)
        {
            tracing::warn!("Redis does not answer, or is no primary: asking the sentinels");
            state.connected = None;
        }
    }

    fn give_up(&self, number: u64) {
        let mut state = self.state();
        if state
            .connected
            .as_ref()
            .is_some_and(|connected| connected.number == number)
        {
            state.connected = None;
        }
    }

    async fn connected(self: &Arc<Self>) -> Result<Connected, Failure> {
        let mut found = {
            let mut state = self.state();
            if let Some(connected) = &state.connected {
                return Ok(connected.clone());
            }
            match &state.looking {
                // Unless the runtime that it was looked for in has ended.
                Some(looking) if looking.has_changed().is_ok() => looking.clone(),
                _ => state.looking.insert(self.look()).clone(),
            }
        };
        let found = found.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or(Err(Failure::TimedOut))
    }

    /// Looks for the primary in a task of its own, which ends whoever goes away.
    fn look(self: &Arc<Self>) -> watch::Receiver<Option<Result<Connected, Failure>>> {
        let (sender, receiver) = watch::channel(None);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let found = this.find().await;
            let mut state = this.state();
            state.looking = None;
            state.connected = found.as_ref().ok().cloned();
            drop(state);
            sender.send_replace(Some(found));
        });
        receiver
    }

    async fn find(self: &Arc<Self>) -> Result<Connected, Failure> {
        let address = self.sentinels.primary().await?;
        let number = {
            let mut state = self.state();
            state.named = Some(format!("{}:{}", address.0, address.1));
            state.connections += 1;
            state.connections
        };
        let info = at(&self.info, address.0.clone(), address.1);
        let connecting = async {
            let client = Client::open(info)?;
            let settings = self.settings(number);
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&settings)
                .await?;
            let role: Value = cmd("ROLE").query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, role))
        };
        let (connection, role) = match timeout(self.patience, connecting).await {
            Ok(connected) => connected.map_err(|error| Failure::from(error).of_server())?,
            Err(_) => return Err(Failure::TimedOut),
        };
        if !is_primary(&role) {
            return Err(Failure::Demoted);
        }
        let since = Instant::now();
        Ok(Connected {
            number,
            since,
            address,
            connection,
        })
    }

    fn settings(self: &Arc<Self>, number: u64) -> AsyncConnectionConfig {
        // It is [`super::link::Link`] that waits for answers.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        if !has_pushes(&self.info) {
            return settings;
        }
        let this = Arc::downgrade(self);
        settings.set_push_sender(move |push: PushInfo| {
            if let (PushKind::Disconnection, Some(this)) = (push.kind, this.upgrade()) {
                this.give_up(number);
            }
            Ok::<_, SendError>(())
        })
    }

    /// Goes on asking the sentinels until nobody needs the primary any more.
    pub(super) async fn follow(this: Weak<Self>, changed: Arc<Notify>) {
        loop {
            // Either way it is time to ask.
            drop(timeout(PERIOD, changed.notified()).await);
            let Some(this) = this.upgrade() else { return };
            this.compare().await;
        }
    }

    /// Gives up the connection if the sentinels call another server the primary.
    async fn compare(&self) {
        let Some(connected) = self.state().connected.clone() else {
            return;
        };
        match self.sentinels.primary().await {
            Ok(address) if address != connected.address => {
                let (host, port) = address;
                tracing::warn!(
                    host,
                    port,
                    "the sentinels call another Redis server the primary"
                );
                self.give_up(connected.number);
            }
            // That they are away is no reason to leave.
            _ => {}
        }
    }

    /// Returns what the sentinels ring when there may be another primary.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.sentinels.changed()
    }

    /// Returns where the primary is, as far as that is known, and who says so.
    pub(super) fn address(&self) -> String {
        match &self.state().named {
            Some(named) => format!("{named}, the primary of {},", self.sentinels),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Primary {
    /// Writes the service and where the sentinels are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sentinels)
    }
}

/// Returns `true` if the connection has broken, or the server is the primary no more.
fn is_over(error: &RedisError) -> bool {
    let demoted = |code| ["READONLY", "MASTERDOWN"].contains(&code);
    error.is_unrecoverable_error() || error.code().is_some_and(demoted)
}

fn is_primary(role: &Value) -> bool {
    let Value::Array(role) = role else {
        return false;
    };
    match role.first() {
        Some(Value::BulkString(role)) => role == b"master",
        Some(Value::SimpleString(role)) => role == "master",
        _ => false,
    }
}
