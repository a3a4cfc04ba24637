//! The statements that the store asks, with the types of their parameters.

use tokio_postgres::types::Type;

use crate::store::KEPT_AFTER_EXPIRY;
use crate::store::names::Names;
use crate::store::rows::RowSwap;

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
    pub(super) scan: Statement,
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

/// Finds a record's own row, by [`HEAD`](crate::store::rows::HEAD).
const IS_HEAD: &str = r"name = '\xff'";

impl Statements {
    /// With `by_server`, nothing is swept before its time has come by the server's clock, too.
    pub(super) fn new(names: &Names, by_server: bool) -> Self {
        let table = names.records();
        let create = format!(
            "INSERT INTO {table} (key, name, due, expires, version, payload) VALUES ($1, '\\xff', $3, $3, $2, $4) \
             ON CONFLICT DO NOTHING RETURNING key"
        );
        // Whatever the isolation, and whoever else writes: the version decides.
        let update = format!(
            "UPDATE {table} SET due = LEAST(due, $3), expires = $3, version = $2, payload = $4 \
             WHERE key = $1 AND {IS_HEAD} AND version = $5 RETURNING key"
        );
        Self {
            // One statement sees one moment: a head and what stands beside it always fit together.
            load: Statement::new(
                &[Type::BYTEA],
                format!("SELECT name, payload FROM {table} WHERE key = $1"),
            ),
            create: Write::new(create, &table),
            update: Write::new(update, &table),
            scan: Statement::new(
                &[Type::BYTEA, Type::BYTEA, Type::INT8],
                format!(
                    "SELECT key FROM {table} WHERE key > $1 AND key < $2 AND {IS_HEAD} ORDER BY key LIMIT $3"
                ),
            ),
            sweep: sweep(&table, by_server),
        }
    }

    /// Returns the statement that writes no more than has to be.
    pub(super) fn of(&self, swap: &RowSwap<'_>) -> &Statement {
        let write = match swap.before {
            None => &self.create,
            Some(_) => &self.update,
        };
        if swap.is_head_alone() {
            &write.head
        } else {
            &write.all
        }
    }
}

impl Write {
    fn new(head: String, table: &str) -> Self {
        let all = format!(
            "WITH swapped AS ({head}), \
             removed AS (DELETE FROM {table} t USING swapped s WHERE t.key = s.key AND t.name = ANY ($6)), \
             written AS (INSERT INTO {table} (key, name, payload) \
                 SELECT s.key, n.name, n.payload FROM swapped s, unnest($7, $8) AS n (name, payload) \
                 ON CONFLICT (key, name) DO UPDATE SET payload = EXCLUDED.payload) \
             SELECT key FROM swapped"
        );
        Self {
            head: Statement::new(&WRITE[..WRITE_HEAD], head),
            all: Statement::new(WRITE, all),
        }
    }
}

/// Looks at no more than `$2` records that are due, and deletes those whose time has come by `$1`. What others are busy
/// with it leaves for the next time. Returns a row for each that it looked at; those that live on have no key.
fn sweep(table: &str, by_server: bool) -> Statement {
    // One machine's clock may be wrong, and what is deleted by it is gone for all.
    let cutoff = if by_server {
        let kept = KEPT_AFTER_EXPIRY.as_millis();
        format!("LEAST($1, (extract(epoch FROM statement_timestamp()) * 1000)::bigint - {kept})")
    } else {
        "$1".to_owned()
    };
    // What was swapped since the statement began stays until the next time: this one does not see what stands beside it by now.
    // The server takes an array for short, and looks the keys up one by one. Nobody need wait for the disk to have it,
    // least of all a request whose swap would queue behind: what a crash brings back is swept again.
    let sql = format!(
        "WITH due AS (SELECT key FROM {table} WHERE due <= {cutoff} ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED), \
         seen AS (SELECT version FROM {table} WHERE key = ANY (ARRAY(SELECT key FROM due)) AND {IS_HEAD}), \
         later AS (UPDATE {table} SET due = expires \
             WHERE key = ANY (ARRAY(SELECT key FROM due)) AND {IS_HEAD} AND expires > {cutoff}), \
         gone AS (DELETE FROM {table} \
             WHERE key = ANY (ARRAY(SELECT key FROM due)) AND {IS_HEAD} AND expires <= {cutoff} \
             AND version = ANY (ARRAY(SELECT version FROM seen)) \
             RETURNING key, payload), \
         beside AS (DELETE FROM {table} WHERE key = ANY (ARRAY(SELECT key FROM gone)) AND NOT {IS_HEAD}) \
         SELECT gone.key, gone.payload, set_config('synchronous_commit', 'off', true) \
             FROM due LEFT JOIN gone USING (key)"
    );
    Statement {
        sql,
        types: &[Type::INT8, Type::INT8],
        // The plan depends on how many are asked for.
        keep: false,
    }
}
