//! The statements that the store asks, with the types of their parameters.

use tokio_postgres::types::Type;

use super::schema::Names;
use crate::store::KEPT_AFTER_EXPIRY;

/// A statement, and the types of its parameters: given along, the server need not be asked for them.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) types: &'static [Type],
    /// Whether it is planned once for each connection, if that can keep statements at all.
    pub(super) keep: bool,
}

impl Statement {
    fn new(types: &'static [Type], sql: String) -> Self {
        Self {
            sql,
            types,
            keep: true,
        }
    }
}

/// All of them, with the names of one set of tables.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) load: Statement,
    pub(super) create: Write,
    pub(super) update: Write,
    pub(super) sweep: Statement,
}

/// One way of writing a row: alone, and together with what stands beside it. Each returns a row if it has written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) head: Statement,
    pub(super) all: Statement,
}

/// Key, version, expiry, head, version before; then the names that go beside it, and the names and payloads that come.
const WRITE: &[Type] = &[
    Type::BYTEA,
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
    Type::INT8,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
];

/// How many of them the head alone takes.
pub(super) const WRITE_HEAD: usize = 5;

impl Statements {
    /// With `by_server`, nothing is swept before its time has come by the server's clock, too.
    pub(super) fn new(names: &Names, by_server: bool) -> Self {
        let (records, payloads) = (names.records(), names.payloads());
        let create = format!(
            "INSERT INTO {records} (key, due, expires, version, head) VALUES ($1, $3, $3, $2, $4) \
             ON CONFLICT DO NOTHING RETURNING key"
        );
        // Whatever the isolation, and whoever else writes: the version decides.
        let update = format!(
            "UPDATE {records} SET due = LEAST(due, $3), expires = $3, version = $2, head = $4 \
             WHERE key = $1 AND version = $5 RETURNING key"
        );
        Self {
            // One statement sees one moment: a head and its payloads always fit together.
            load: Statement::new(
                &[Type::BYTEA],
                format!(
                    "SELECT NULL AS name, head AS payload FROM {records} WHERE key = $1 \
                     UNION ALL SELECT name, payload FROM {payloads} WHERE key = $1"
                ),
            ),
            create: Write::new(create, &payloads),
            update: Write::new(update, &payloads),
            sweep: sweep(&records, &payloads, by_server),
        }
    }
}

impl Write {
    fn new(row: String, payloads: &str) -> Self {
        let all = format!(
            "WITH swapped AS ({row}), \
             removed AS (DELETE FROM {payloads} p USING swapped s WHERE p.key = s.key AND p.name = ANY ($6)), \
             written AS (INSERT INTO {payloads} (key, name, payload) \
                 SELECT s.key, n.name, n.payload FROM swapped s, unnest($7, $8) AS n (name, payload) \
                 ON CONFLICT (key, name) DO UPDATE SET payload = EXCLUDED.payload) \
             SELECT key FROM swapped"
        );
        Self {
            head: Statement::new(&WRITE[..WRITE_HEAD], row),
            all: Statement::new(WRITE, all),
        }
    }
}

/// Looks at no more than `$2` records that are due, and deletes those whose time has come by `$1`. What others are busy
/// with it leaves for the next time. Returns a row for each that it looked at; those that live on have no key.
fn sweep(records: &str, payloads: &str, by_server: bool) -> Statement {
    // One machine's clock may be wrong, and what is deleted by it is gone for all.
    let cutoff = if by_server {
        let kept = KEPT_AFTER_EXPIRY.as_millis();
        format!("LEAST($1, (extract(epoch FROM statement_timestamp()) * 1000)::bigint - {kept})")
    } else {
        "$1".to_owned()
    };
    // Nobody need wait for the disk to have it, least of all a request whose swap would queue behind: what a crash
    // brings back is swept again. An array, since the server takes that for short, and looks the keys up one by one.
    let sql = format!(
        "WITH due AS (SELECT key FROM {records} WHERE due <= {cutoff} ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED), \
         later AS (UPDATE {records} SET due = expires \
             WHERE key = ANY (ARRAY(SELECT key FROM due)) AND expires > {cutoff}), \
         gone AS (DELETE FROM {records} \
             WHERE key = ANY (ARRAY(SELECT key FROM due)) AND expires <= {cutoff} RETURNING key, head), \
         beside AS (DELETE FROM {payloads} WHERE key = ANY (ARRAY(SELECT key FROM gone))) \
         SELECT gone.key, gone.head, set_config('synchronous_commit', 'off', true) \
             FROM due LEFT JOIN gone USING (key)"
    );
    Statement {
        sql,
        types: &[Type::INT8, Type::INT8],
        // The plan depends on how many are asked for.
        keep: false,
    }
}
