//! An app over a store that many share: what becomes of its requests when the wire fails, when others write, when
//! somebody forges, floods or steals.

mod attacks;
mod faults;
mod instances;

mod stand;

/// Runs each `async fn test(stand: Stand<impl Server>)` over Redis, PostgreSQL and MariaDB, one after the other:
/// they are about time, or need the machine for themselves.
macro_rules! on_each_server {
    ($($test:ident),* $(,)?) => {
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                $crate::shared::stand::run(super::$test::<session_tests::RedisServer>).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                $crate::shared::stand::run(super::$test::<session_tests::PostgresServer>).await;
            })*
        }

        mod on_mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                $crate::shared::stand::run(super::$test::<session_tests::MysqlServer>).await;
            })*
        }
    };
}

use on_each_server;
