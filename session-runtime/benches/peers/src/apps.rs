//! The contenders: the same routes over each library, and over none.

mod ours;
mod peers;
mod plain;
mod routes;

use axum::Router;
use axum_session::{SessionConfig, SessionLayer, SessionNullPool, SessionStore};
use axum_session_redispool::SessionRedisPool;
use session_runtime::store::{CachedStore, MemoryStore, PostgresStore, RedisStore, SqliteStore};
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool};

/// What every other contender is measured against: the routes without sessions.
pub(crate) const PLAIN: &str = "plain";
pub(crate) const OURS: &str = "session-runtime";
/// Ours, reading from memory what Redis has not said to have changed.
pub(crate) const CACHED: &str = "session-runtime, CachedStore";
pub(crate) const TOWER: &str = "tower-sessions";
pub(crate) const AXUM_SESSION: &str = "axum_session";
pub(crate) const ALL: [&str; 4] = [PLAIN, OURS, TOWER, AXUM_SESSION];

/// Makes the app of `contender`. Its sessions are kept in `memory`, in the Redis of a `redis://…`, in the PostgreSQL of a
/// `postgres://…`, or in the SQLite file of that path.
pub(crate) async fn app(contender: &str, place: &str) -> Router {
    let redis = place.starts_with("redis://");
    match contender {
        PLAIN => plain::app(),
        OURS if redis => ours::app(RedisStore::connect(place).await.expect("Redis")),
        CACHED => {
            let store = RedisStore::connect(place).await.expect("Redis");
            ours::app(CachedStore::new(store).expect("a connection of the store's own"))
        }
        OURS if place.starts_with("postgres://") => {
            let store = PostgresStore::connect(place).expect("a URL");
            store.migrate().await.expect("a table");
            ours::app(store)
        }
        // More than the default: a million sessions, and none is to be thrown out.
        OURS if place == "memory" => ours::app(MemoryStore::new().with_capacity_bytes(8 << 30)),
        OURS => ours::app(SqliteStore::open(place).expect("a file")),
        TOWER if redis => {
            let config = Config::from_url(place).expect("a URL");
            let pool = Pool::new(config, None, None, None, 6).expect("a pool");
            drop(pool.connect());
            pool.wait_for_connect().await.expect("Redis");
            let store = tower_sessions_redis_store::RedisStore::new(pool);
            let layer = tower_sessions_0_14::SessionManagerLayer::new(store);
            routes::routes::<tower_sessions_0_14::Session>()
                .layer(layer)
                .with_state(())
        }
        TOWER => {
            let store = tower_sessions::MemoryStore::default();
            routes::routes::<tower_sessions::Session>()
                .layer(tower_sessions::SessionManagerLayer::new(store))
                .with_state(())
        }
        AXUM_SESSION if redis => {
            let client = redis::Client::open(place).expect("a URL");
            let pool = SessionRedisPool::from(redis_pool::RedisPool::from(client));
            let store = SessionStore::new(Some(pool), SessionConfig::default());
            routes::routes::<axum_session::Session<SessionRedisPool>>()
                .layer(SessionLayer::new(store.await.expect("Redis")))
                .with_state(())
        }
        AXUM_SESSION => {
            let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default());
            routes::routes::<axum_session::Session<SessionNullPool>>()
                .layer(SessionLayer::new(store.await.expect("memory")))
                .with_state(())
        }
        _ => panic!("no contender is called {contender}"),
    }
}
