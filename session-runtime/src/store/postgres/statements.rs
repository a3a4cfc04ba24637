//! The statements that the store asks, with the types of their parameters.

use tokio_postgres::types::Type;

use super::schema::Names;

/// A statement, and the types of its parameters: given along, the server need not be asked for them.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) types: &'static [Type],
}

/// All of them, with the names of one set of tables.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) load: Statement,
    pub(super) commit: Statement,
    pub(super) owned_by: Statement,
    pub(super) sweep: Statement,
    pub(super) forget: Statement,
}

const COMMIT: &[Type] = &[
    Type::BYTEA,
    Type::BYTEA,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::BYTEA,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::INT8,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
];

impl Statements {
    /// With `by_server`, nothing is swept before it has expired by the server's clock, too.
    pub(super) fn new(names: &Names, by_server: bool) -> Self {
        let (records, slots, commits) = (names.records(), names.slots(), names.commits());
        let cutoff = if by_server {
            "LEAST($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
        } else {
            "$1"
        };
        let places: Vec<_> = (1..=COMMIT.len()).map(|n| format!("${n}")).collect();
        Self {
            // One statement sees one moment: a record and its slots always fit together.
            load: Statement {
                sql: format!(
                    "SELECT r.state, r.detail, r.since, r.expires, r.updated, r.seen, \
                     s.name, s.payload, s.expires, s.signature \
                     FROM {records} r LEFT JOIN {slots} s ON s.body = r.body WHERE r.key = $1"
                ),
                types: &[Type::BYTEA],
            },
            commit: Statement {
                sql: format!(
                    "SELECT state, detail, since, expires, updated, seen, name, payload, lapses, signature, \
                     outcome FROM {}({})",
                    names.commit(),
                    places.join(",")
                ),
                types: COMMIT,
            },
            owned_by: Statement {
                sql: format!("SELECT key FROM {records} WHERE owner = $1"),
                types: &[Type::BYTEA],
            },
            sweep: Statement {
                sql: format!(
                    "SELECT key, owner, state FROM {}({cutoff}, $2)",
                    names.sweep()
                ),
                types: &[Type::INT8, Type::INT8],
            },
            // Twice the minute that was promised. What a crash brings back is forgotten again: the disk can take its time.
            forget: Statement {
                sql: format!(
                    "WITH old AS (DELETE FROM {commits} WHERE token = ANY (ARRAY(SELECT token FROM {commits} \
                     WHERE at < now() - interval '2 minutes' ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED)) \
                     RETURNING 1) SELECT count(*), set_config('synchronous_commit', 'off', true) FROM old"
                ),
                types: &[Type::INT8],
            },
        }
    }
}
