-- Typed sessions, version 1. To be run as it stands; running it again changes nothing.

-- A record (a session, what follows a user, or the tombstone that is left of either) is a row that has the name x'ff',
-- which no text is; and beside it, a row for each of its larger payloads, so that a change of anything else does not
-- write them again. One index finds them all. Times are the app's, in milliseconds since 1970. Keys and names are bytes,
-- since text cannot hold every character.
CREATE TABLE IF NOT EXISTS {records} (
    `key`     varbinary(1040) NOT NULL,
    -- Of a name of more than 255 bytes, x'ff' and a hash.
    `name`    varbinary(255)  NOT NULL,
    -- When to look at the record for sweeping: never after it expires, maybe before. An extension leaves this alone, so
    -- that no index has to be written.
    `due`     bigint,
    `expires` bigint,
    -- What a swap compares: random, and renewed by each.
    `version` bigint,
    `payload` longblob NOT NULL,
    PRIMARY KEY (`key`, `name`),
    KEY `by_due` (`due`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS {versions} (
    `version` int NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
INSERT IGNORE INTO {versions} (`version`) VALUES (1);
