//! Redis: a string for each session; a commit is one script, since it has to see whether the session is there.

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Client, Script};
use session_runtime::Key;
use session_runtime::store::RedisStore;
use session_tests::RedisServer;

use super::{Contender, whole};

const HOURS: u64 = 7_200_000;

pub(super) async fn contenders() -> Option<(RedisServer, Arc<RedisStore>, Raw)> {
    let server = RedisServer::start(&[])?;
    let store = server.store().await;
    let client = Client::open(server.url()).expect("the URL is fine");
    let raw = Raw {
        manager: ConnectionManager::new(client)
            .await
            .expect("the server is up"),
        script: Arc::new(Script::new(
            "return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])",
        )),
    };
    Some((server, Arc::new(store), raw))
}

#[derive(Clone)]
pub(super) struct Raw {
    manager: ConnectionManager,
    script: Arc<Script>,
}

impl Contender for Raw {
    async fn load(&self, key: &Key) {
        let value: Vec<u8> = self
            .manager
            .clone()
            .get(key.to_string())
            .await
            .expect("it is there");
        assert!(!value.is_empty());
    }

    async fn commit(&self, key: &Key, n: u32) {
        let mut call = self.script.key(key.to_string());
        call.arg(whole(n)).arg(HOURS);
        let set: String = call
            .invoke_async(&mut self.manager.clone())
            .await
            .expect("it is there");
        assert_eq!(set, "OK");
    }

    async fn create(&self, key: &Key) {
        let set = self
            .manager
            .clone()
            .pset_ex(key.to_string(), whole(0), HOURS)
            .await;
        let () = set.expect("it is written");
    }
}
