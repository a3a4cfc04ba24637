CREATE TABLE IF NOT EXISTS sessions (
    key     TEXT PRIMARY KEY,
    version BLOB NOT NULL,
    expires INTEGER NOT NULL, -- in milliseconds
    record  BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_expires ON sessions (expires);
