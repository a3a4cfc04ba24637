-- Typed sessions, version 1. To be run as it stands; running it again changes nothing.

DO $do$ BEGIN
    -- Not `IF NOT EXISTS`, which asks for the right to make one even where it is there.
    IF to_regnamespace('{within}') IS NULL THEN
        CREATE SCHEMA {within};
    END IF;
END $do$;

-- A record (a session, what follows a user, or the tombstone that is left of either) is a row that has the name '\xff',
-- which no text is; and beside it, a row for each of its larger payloads, so that a change of anything else does not
-- write them again. One index finds them all. Times are the app's, in milliseconds since 1970. Keys and names are bytes,
-- since text cannot hold every character: `SET bytea_output = 'escape'` makes them readable in psql.
--
-- What never changes stands first: the server does not log what a new row has in common with the old one at its
-- beginning. While there is room on the page, it writes no index either.
CREATE TABLE IF NOT EXISTS {records} (
    key     bytea  NOT NULL,
    -- Of a name of more than 255 bytes, '\xff' and a hash.
    name    bytea  NOT NULL,
    -- When to look at the record for sweeping: never after it expires, maybe before. An extension leaves this alone, so
    -- that no index has to be written.
    due     bigint,
    expires bigint,
    -- What a swap compares: random, and renewed by each.
    version bigint,
    payload bytea  NOT NULL,
    PRIMARY KEY (key, name)
) WITH (fillfactor = 70, toast_tuple_target = 8160);
CREATE INDEX IF NOT EXISTS {records_by_due} ON {records} (due) WHERE due IS NOT NULL;

CREATE TABLE IF NOT EXISTS {versions} (
    version integer PRIMARY KEY
);
INSERT INTO {versions} (version) VALUES (1) ON CONFLICT DO NOTHING;
