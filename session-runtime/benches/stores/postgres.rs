//! PostgreSQL: a row for each session, and its value in one column.

use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use session_runtime::store::PostgresStore;
use session_runtime::{Key, SystemClock};
use session_tests::PostgresServer;
use tokio_postgres::NoTls;

use super::{Contender, whole};

pub(super) async fn contenders() -> Option<(PostgresServer, Arc<PostgresStore>, Raw)> {
    let server = PostgresServer::start_with("")?;
    let store = server.store(SystemClock::default()).await;
    let config = server.url().parse().expect("the URL is fine");
    let how = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let pool = Pool::builder(Manager::from_config(config, NoTls, how))
        .max_size(16)
        .runtime(Runtime::Tokio1);
    let raw = Raw(pool.build().expect("a pool"));
    let table =
        "CREATE TABLE raw (key bytea PRIMARY KEY, value bytea NOT NULL, expires bigint NOT NULL)";
    raw.object()
        .await
        .batch_execute(table)
        .await
        .expect("a table");
    Some((server, Arc::new(store), raw))
}

#[derive(Clone)]
pub(super) struct Raw(Pool);

impl Raw {
    async fn object(&self) -> Object {
        self.0.get().await.expect("a connection")
    }
}

impl Contender for Raw {
    type Seen = ();

    async fn create(&self, key: &Key) {
        let object = self.object().await;
        let insert = object
            .prepare_cached("INSERT INTO raw VALUES ($1, $2, 0)")
            .await
            .expect("it parses");
        let written = object
            .execute(&insert, &[&key.to_string().as_bytes(), &whole(0)])
            .await;
        assert_eq!(written.expect("it is written"), 1);
    }

    async fn load(&self, key: &Key) {
        let object = self.object().await;
        let select = object
            .prepare_cached("SELECT value FROM raw WHERE key = $1")
            .await
            .expect("it parses");
        let row = object
            .query_one(&select, &[&key.to_string().as_bytes()])
            .await
            .expect("it is there");
        let value: Vec<u8> = row.get(0);
        assert!(!value.is_empty());
    }

    async fn swap(&self, key: &Key, (): &mut (), n: u32) {
        let object = self.object().await;
        let update = object
            .prepare_cached("UPDATE raw SET value = $2 WHERE key = $1")
            .await
            .expect("it parses");
        let written = object
            .execute(&update, &[&key.to_string().as_bytes(), &whole(n)])
            .await;
        assert_eq!(written.expect("it is written"), 1);
    }
}
