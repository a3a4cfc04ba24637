//! Redis: a string for each session, which a commit writes if it is there.

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Client};
use session_runtime::Key;
use session_runtime::store::RedisStore;
use session_tests::RedisServer;

use super::{Contender, whole};

const HOURS: u64 = 7_200_000;

pub(super) async fn contenders() -> Option<(RedisServer, Arc<RedisStore>, Raw)> {
    let server = RedisServer::start(&[])?;
    let store = server.store().await;
    let client = Client::open(server.url()).expect("the URL is fine");
    let manager = ConnectionManager::new(client).await;
    let raw = Raw(manager.expect("the server is up"));
    Some((server, Arc::new(store), raw))
}

#[derive(Clone)]
pub(super) struct Raw(ConnectionManager);

impl Contender for Raw {
    async fn load(&self, key: &Key) {
        let value: Vec<u8> = self
            .0
            .clone()
            .get(key.to_string())
            .await
            .expect("it is there");
        assert!(!value.is_empty());
    }

    async fn commit(&self, key: &Key, n: u32) {
        let mut set = redis::cmd("SET");
        set.arg(key.to_string()).arg(whole(n));
        set.arg("XX").arg("PX").arg(HOURS);
        let set: String = set
            .query_async(&mut self.0.clone())
            .await
            .expect("it is there");
        assert_eq!(set, "OK");
    }

    async fn create(&self, key: &Key) {
        let set = self
            .0
            .clone()
            .pset_ex(key.to_string(), whole(0), HOURS)
            .await;
        let () = set.expect("it is written");
    }
}
