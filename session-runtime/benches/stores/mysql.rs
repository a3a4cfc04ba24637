//! MariaDB: a row for each session, and its value in one column.

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use session_runtime::store::{MysqlOptions, MysqlStore};
use session_runtime::{Key, SystemClock};
use session_tests::MysqlServer;

use super::{Contender, whole};

pub(super) async fn contenders() -> Option<(MysqlServer, Arc<MysqlStore>, Raw)> {
    let server = MysqlServer::start_with(&[])?;
    let store = server.store(SystemClock::default()).await;
    // As the store's own is: as many connections, which keep their statements.
    let pool = PoolOpts::new()
        .with_constraints(PoolConstraints::new(16, 16).expect("some"))
        .with_reset_connection(false);
    let opts = Opts::from_url(&server.url()).expect("the URL is fine");
    let opts = OptsBuilder::from_opts(opts)
        .prefer_socket(false)
        .setup(vec![MysqlOptions::SETUP])
        .pool_opts(pool);
    let raw = Raw(Pool::new(opts));
    let table = "CREATE TABLE raw (id VARBINARY(64) PRIMARY KEY, value LONGBLOB NOT NULL, expires BIGINT NOT NULL)";
    raw.conn().await.query_drop(table).await.expect("a table");
    Some((server, Arc::new(store), raw))
}

#[derive(Clone)]
pub(super) struct Raw(Pool);

impl Raw {
    async fn conn(&self) -> Conn {
        self.0.get_conn().await.expect("a connection")
    }
}

impl Contender for Raw {
    type Seen = ();

    async fn create(&self, key: &Key) {
        let mut conn = self.conn().await;
        let insert = "INSERT INTO raw VALUES (?, ?, 0)";
        let written = conn.exec_drop(insert, (key.to_string(), whole(0))).await;
        written.expect("it is written");
    }

    async fn load(&self, key: &Key) {
        let mut conn = self.conn().await;
        let select = "SELECT value FROM raw WHERE id = ?";
        let value = conn.exec_first(select, (key.to_string(),)).await;
        let value: Option<Vec<u8>> = value.expect("an answer");
        assert!(!value.expect("it is there").is_empty());
    }

    async fn swap(&self, key: &Key, (): &mut (), n: u32) {
        let mut conn = self.conn().await;
        let update = "UPDATE raw SET value = ? WHERE id = ?";
        let written = conn.exec_drop(update, (whole(n), key.to_string())).await;
        written.expect("it is written");
    }
}
