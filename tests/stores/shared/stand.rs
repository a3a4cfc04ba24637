//! An app, a proxy and a server: the store goes through the proxy, and the test looks behind it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::handler::Handler;
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use session_runtime::Session;
use session_runtime::store::{MysqlStore, PostgresStore, Record, RedisStore, Store};
use session_tests::{
    MysqlServer, PATIENCE, PostgresServer, Proxy, RedisServer, Reply, Site, Tries, Visitor, Wire,
    connect_to_redis, wait_for,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the layer of a [hasty](Stand::hasty) stand waits for the store.
pub(crate) const DEADLINE: Duration = Duration::from_millis(200);

/// By when there is an answer then, whatever the store does.
const IN_TIME: Duration = Duration::from_millis(300);

const BUSY: &str = "The session is not available just now. Please try again.";

/// How many connections a store has, if it has a pool.
const CONNECTIONS: usize = 2;

#[derive(Session)]
pub(crate) struct Shop {
    #[merge(sum)]
    pub(crate) points: u32,
    pub(crate) text: String,
}

pub(crate) async fn add_one(mut session: Session<Shop>) {
    *session.points.get_mut() += 1;
}

pub(crate) async fn read(session: Session<Shop>) -> String {
    session.points.get().to_string()
}

/// A server that tests share.
pub(crate) trait Server: Sized + Send + Sync + 'static {
    /// A store on it.
    type Store: Store + Clone;

    /// The one of this process. `None` if this machine has none.
    fn shared() -> Option<&'static Self>;

    /// Returns the lock by which tests on it take turns.
    fn turns() -> &'static Mutex<()>;

    fn port(&self) -> u16;

    /// By way of whatever listens on `port`.
    fn url(&self, port: u16) -> String;

    /// A store of that name, with so many connections if it has a pool. One that waits so long for the server is made if need
    /// be; by default it waits less.
    async fn store(
        &self,
        url: &str,
        name: &str,
        connections: usize,
        patience: Option<Duration>,
    ) -> Self::Store;

    /// All that is kept under that name, as text.
    async fn dump(&self, name: &str) -> String;
}

impl Server for RedisServer {
    type Store = RedisStore;

    fn shared() -> Option<&'static Self> {
        Self::shared()
    }

    fn turns() -> &'static Mutex<()> {
        static TURNS: Mutex<()> = Mutex::const_new(());
        &TURNS
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn url(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }

    async fn store(
        &self,
        url: &str,
        name: &str,
        _: usize,
        patience: Option<Duration>,
    ) -> RedisStore {
        let mut options = RedisStore::options().prefix(name);
        if let Some(patience) = patience {
            options = options.timeout(patience);
        }
        connect_to_redis(&options, url).await
    }

    async fn dump(&self, name: &str) -> String {
        let mut dump = String::new();
        let keys: Vec<Vec<u8>> = self.command(&["KEYS", &format!("{name}*")]);
        for key in keys {
            let key = String::from_utf8(key).expect("keys are text");
            let kind: String = self.command(&["TYPE", &key]);
            let all: Vec<Vec<u8>> = match kind.as_str() {
                "string" => vec![self.command(&["GET", &key])],
                "hash" => self.command(&["HGETALL", &key]),
                "set" => self.command(&["SMEMBERS", &key]),
                "zset" => self.command(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]),
                "list" => self.command(&["LRANGE", &key, "0", "-1"]),
                kind => panic!("{key} is a {kind}, which this does not read"),
            };
            writeln!(dump, "{key}").expect("text");
            for value in all {
                writeln!(dump, "{} {}", String::from_utf8_lossy(&value), hex(&value))
                    .expect("text");
            }
        }
        dump
    }
}

impl Server for PostgresServer {
    type Store = PostgresStore;

    fn shared() -> Option<&'static Self> {
        Self::shared()
    }

    fn turns() -> &'static Mutex<()> {
        static TURNS: Mutex<()> = Mutex::const_new(());
        &TURNS
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn url(&self, port: u16) -> String {
        self.url_at(port)
    }

    async fn store(
        &self,
        url: &str,
        name: &str,
        connections: usize,
        patience: Option<Duration>,
    ) -> PostgresStore {
        let mut options = PostgresStore::options().schema(name).pool_size(connections);
        if let Some(patience) = patience {
            options = options.wait(patience);
        }
        let store = options.connect(url).expect("the URL is fine");
        if patience.is_some() {
            store.migrate().await.expect("the tables can be made");
        }
        store
    }

    async fn dump(&self, name: &str) -> String {
        let client = self.client().await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
        let tables = client.query(tables, &[&name]).await.expect("an answer");
        assert!(!tables.is_empty());
        let mut dump = String::new();
        for table in tables {
            let table: String = table.get(0);
            let rows = format!("SELECT t::text FROM \"{name}\".\"{table}\" t");
            for row in client.query(&rows, &[]).await.expect("an answer") {
                let row: String = row.get(0);
                writeln!(dump, "{table} {row} {}", spelt_out(&row)).expect("text");
            }
        }
        dump
    }
}

impl Server for MysqlServer {
    type Store = MysqlStore;

    fn shared() -> Option<&'static Self> {
        Self::shared()
    }

    fn turns() -> &'static Mutex<()> {
        static TURNS: Mutex<()> = Mutex::const_new(());
        &TURNS
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn url(&self, port: u16) -> String {
        self.url_at(port)
    }

    async fn store(
        &self,
        url: &str,
        name: &str,
        connections: usize,
        patience: Option<Duration>,
    ) -> MysqlStore {
        let mut options = MysqlStore::options().database(name).pool_size(connections);
        if let Some(patience) = patience {
            options = options.wait(patience);
        }
        let store = options.connect(url).expect("the URL is fine");
        if patience.is_some() {
            Self::make_tables(&store).await;
        }
        store
    }

    async fn dump(&self, name: &str) -> String {
        let mut client = self.client().await;
        let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = ?";
        let tables: Vec<String> = client.exec(tables, (name,)).await.expect("an answer");
        assert!(!tables.is_empty());
        let mut dump = String::new();
        for table in tables {
            let rows = format!("SELECT * FROM `{name}`.`{table}`");
            let rows: Vec<Row> = client.query(rows).await.expect("an answer");
            for row in rows {
                write!(dump, "{table}").expect("text");
                for value in row.unwrap() {
                    let value: Option<Vec<u8>> = mysql_async::from_value(value);
                    let value = value.unwrap_or_default();
                    let text = String::from_utf8_lossy(&value);
                    write!(dump, " {text} {}", hex(&value)).expect("text");
                }
                dump.push('\n');
            }
        }
        dump
    }
}

/// The bytes that stand in a row as `\x…`, in digits, as text.
fn spelt_out(row: &str) -> String {
    let columns = row.split("\\x").skip(1);
    columns.fold(String::new(), |text, column| {
        let end = column.find(|digit: char| !digit.is_ascii_hexdigit());
        let bytes = bytes(&column[..end.unwrap_or(column.len())]);
        text + " " + &*String::from_utf8_lossy(&bytes)
    })
}

/// The bytes of which these are the digits.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| str::from_utf8(pair).expect("digits"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("digits"))
        .collect()
}

/// The digits of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text");
        text
    })
}

/// A site whose store goes through a proxy, and another way to what it holds.
pub(crate) struct Stand<S: Server> {
    pub(crate) server: &'static S,
    pub(crate) name: String,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) site: Site,
    direct: S::Store,
}

/// Runs a test over a server, if there is one. It has the server to itself.
pub(crate) async fn run<S: Server>(test: impl AsyncFnOnce(Stand<S>)) {
    if let Some(server) = S::shared() {
        let _turn = S::turns().lock().await;
        test(Stand::open(server).await).await;
    }
}

impl<S: Server> Stand<S> {
    async fn open(server: &'static S) -> Self {
        static STANDS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("stand{}_", STANDS.fetch_add(1, Ordering::Relaxed));
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let proxy = Arc::new(Proxy::open(proxy));
        let url = server.url(server.port());
        let direct = server.store(&url, &name, CONNECTIONS, Some(PATIENCE)).await;
        let site = site(server, &name, &proxy, CONNECTIONS).await;
        Self {
            server,
            name,
            proxy,
            site,
            direct,
        }
    }

    /// The same with one connection, if the store has a pool: what is asked next is asked on that.
    pub(crate) async fn narrow(self) -> Self {
        let site = site(self.server, &self.name, &self.proxy, 1).await;
        Self { site, ..self }
    }

    /// The same with a store that waits long for a server which is only busy, without the proxy.
    pub(crate) fn patient(mut self) -> Self {
        let store = self.direct.clone();
        self.site = Site::new(|_| store);
        self
    }

    /// The same with a layer that does not wait long for the store.
    pub(crate) fn hasty(mut self) -> Self {
        self.site = self.site.with(|layer| layer.deadline(DEADLINE));
        self
    }

    /// A visitor who has ten points.
    pub(crate) async fn customer(&self) -> Visitor {
        let mut visitor = self.site.visitor();
        let begin = async |mut session: Session<Shop>| session.points.set(10);
        // The store may be on its way back from what the last test did to it.
        insist(&mut visitor, begin).await;
        self.site.store.round_trips();
        visitor
    }

    /// Has the one connection prepare what it will be asked: from then on a call is one round trip.
    pub(crate) async fn warm(&self) {
        let mut visitor = self.customer().await;
        insist(&mut visitor, add_one).await;
    }

    /// Returns what the server holds, whatever the proxy does.
    pub(crate) async fn record(&self, visitor: &Visitor) -> Option<Arc<Record>> {
        let found = self.direct.load(&visitor.key()).await;
        found.expect("the server answers")
    }

    /// The visitor's points, as the server holds them.
    pub(crate) async fn points(&self, visitor: &Visitor) -> u32 {
        let record = self.record(visitor).await.expect("there is a session");
        let slot = record.slot("points").expect("it has points");
        let text = String::from_utf8_lossy(slot.payload()).into_owned();
        text.parse().expect("a number")
    }

    /// Opens the wire; within a second, the visitor is served again. On a machine that is busy with other things
    /// that may take longer, but not each time.
    pub(crate) async fn heal(&self, visitor: &mut Visitor) -> Reply {
        let (wire, tries, mut took) = (self.proxy.wire(), Tries::begin(), Vec::new());
        loop {
            self.proxy.set(Wire::Open);
            let begun = Instant::now();
            let reply = insist(visitor, read).await;
            took.push(begun.elapsed());
            if begun.elapsed() < Duration::from_secs(1) {
                return reply;
            }
            self.proxy.set(wire);
            tries.go_on(&took);
        }
    }
}

/// A site whose store goes through the proxy.
async fn site<S: Server>(server: &S, name: &str, proxy: &Proxy, connections: usize) -> Site {
    let url = server.url(proxy.address().port());
    let store = server.store(&url, name, connections, None).await;
    Site::new(|_| store)
}

/// Visits until there is an answer.
pub(crate) async fn insist<T: 'static>(
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
) -> Reply {
    let mut answer = None;
    wait_for("there is an answer", async || {
        let reply = visitor.visit(handler.clone()).await;
        let is_served = reply.status.is_success();
        if !is_served {
            assert_busy(&reply);
        }
        answer = Some(reply);
        is_served
    })
    .await;
    answer.expect("it was waited for")
}

/// The session is not available: the client is told so, and nothing else.
pub(crate) fn assert_busy(reply: &Reply) {
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (503, BUSY));
    assert!(reply.set_cookies().is_empty());
}

/// Has an answer in time, as `ask` measures. On a machine that is busy with other things many may be late, but not
/// each one for minutes.
pub(crate) async fn in_time(mut ask: impl AsyncFnMut() -> Duration) {
    let (tries, mut took) = (Tries::begin(), Vec::new());
    while !took.iter().any(|took| *took < IN_TIME) {
        tries.go_on(&took);
        took.push(ask().await);
    }
}

/// Measures how long it takes to say that the session is not available.
pub(crate) async fn refusal<T: 'static>(
    visitor: &mut Visitor,
    handler: impl Handler<T, ()>,
) -> Duration {
    let begun = Instant::now();
    assert_busy(&visitor.visit(handler).await);
    begun.elapsed()
}
