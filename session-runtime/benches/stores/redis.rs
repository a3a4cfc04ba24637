//! Redis: a string for each session; a swap is one script, since it has to see whether the session is there.

use std::sync::Arc;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Client, Script};
use session_runtime::Key;
use session_runtime::store::RedisStore;
use session_tests::RedisServer;

use super::{Contender, TTL, whole};

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
    type Seen = ();

    async fn create(&self, key: &Key) {
        let mut manager = self.manager.clone();
        let set = manager.pset_ex(key.to_string(), whole(0), lifetime()).await;
        let () = set.expect("it is written");
    }

    async fn load(&self, key: &Key) {
        let loaded = self.manager.clone().get(key.to_string()).await;
        let value: Vec<u8> = loaded.expect("it is there");
        assert!(!value.is_empty());
    }

    async fn swap(&self, key: &Key, (): &mut (), n: u32) {
        let mut call = self.script.key(key.to_string());
        call.arg(whole(n)).arg(lifetime());
        let set: String = call
            .invoke_async(&mut self.manager.clone())
            .await
            .expect("it is there");
        assert_eq!(set, "OK");
    }
}

/// In milliseconds.
fn lifetime() -> u64 {
    u64::try_from(TTL.as_millis()).expect("hours")
}
