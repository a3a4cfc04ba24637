-- Typed sessions, version 1. To be run as it stands; running it again changes nothing.

DO $do$ BEGIN
    -- Not `IF NOT EXISTS`, which asks for the right to make one even where it is there.
    IF to_regnamespace('{schema}') IS NULL THEN
        CREATE SCHEMA {schema};
    END IF;
END $do$;

-- One row for each record: a session, what follows a user, or the tombstone that is left of either. Times are the
-- app's, in milliseconds since 1970. Keys, names and texts are bytes, since text cannot hold every character:
-- `SET bytea_output = 'escape'` makes them readable in psql.
--
-- What never changes stands first: the server logs neither what a new row has in common with the old one at its
-- beginning, nor, while there is room on the page, any index.
CREATE TABLE IF NOT EXISTS {records} (
    key     bytea  PRIMARY KEY,
    -- When to look at it for sweeping: never after it expires, maybe before. An extension leaves this alone, so that
    -- no index has to be written.
    due     bigint NOT NULL,
    expires bigint NOT NULL,
    -- What a swap compares: random, and renewed by each.
    version bigint NOT NULL,
    -- The record, but for its larger payloads.
    head    bytea  NOT NULL
) WITH (fillfactor = 70, toast_tuple_target = 8160);
CREATE INDEX IF NOT EXISTS {records_by_due} ON {records} (due);

-- The larger payloads: a change of anything else does not write them again.
CREATE TABLE IF NOT EXISTS {payloads} (
    key     bytea NOT NULL,
    name    bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (key, name)
) WITH (fillfactor = 80);

CREATE TABLE IF NOT EXISTS {versions} (
    version integer PRIMARY KEY
);
INSERT INTO {versions} (version) VALUES (1) ON CONFLICT DO NOTHING;
