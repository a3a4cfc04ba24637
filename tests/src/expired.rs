//! Records that have expired, by the million: more than could be made one by one.

use std::path::Path;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use session_runtime::Key;
use tokio_postgres::Client;

/// Makes `many` records of the one under `key`, with what stands beside them, under keys of all kinds.
///
/// # Panics
///
/// If the server does not let them be made.
pub async fn multiply_in_postgres(client: &Client, schema: &str, key: &Key, many: usize) {
    let copy = format!(
        "WITH made AS MATERIALIZED (SELECT convert_to('user:{{' || gen_random_uuid() || '}}', 'UTF8') AS key
             FROM generate_series(2, $2::bigint))
         INSERT INTO {schema}.sessions (key, name, due, expires, version, payload)
             SELECT made.key, r.name, r.due, r.expires, r.version, r.payload
             FROM made, {schema}.sessions r WHERE r.key = $1"
    );
    let key = key.to_string().into_bytes();
    let made = client.execute(&copy, &[&key, &number(many)]).await;
    made.expect("they are made");
}

/// The same in MariaDB.
///
/// # Panics
///
/// If the server does not let them be made.
pub async fn multiply_in_mysql(client: &mut Conn, database: &str, key: &Key, many: usize) {
    let copy = format!(
        "INSERT INTO {database}.sessions (`key`, name, due, expires, version, payload)
             SELECT CONCAT('user:{{', UUID(), '}}'), r.name, r.due, r.expires, r.version, r.payload
             FROM seq_2_to_{many} n, {database}.sessions r WHERE r.`key` = ?"
    );
    let made = client.exec_drop(copy, (key.to_string(),)).await;
    made.expect("they are made");
}

/// The same in a file of SQLite's.
///
/// # Panics
///
/// If they cannot be written.
pub fn multiply_in_sqlite(file: &Path, key: &Key, many: usize) {
    let copy =
        "WITH RECURSIVE copies (n) AS (VALUES (2) UNION ALL SELECT n + 1 FROM copies WHERE n < ?2)
        INSERT INTO records (key, version, expires, head)
            SELECT printf('session:%016x', random()), version, expires, head
            FROM copies, records WHERE key = ?1";
    let sqlite = rusqlite::Connection::open(file).expect("a file");
    let made = sqlite.execute(copy, (key.to_string(), number(many)));
    made.expect("they are made");
}

fn number(many: usize) -> i64 {
    i64::try_from(many).expect("so many there are not")
}
