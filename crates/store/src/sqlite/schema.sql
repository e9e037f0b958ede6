-- The embedded store, schema 1. Times are milliseconds since 1970, hashes 32 bytes.

-- The ledger: one row per event, in commit order without gaps. Append-only.
CREATE TABLE events (
    idx     INTEGER PRIMARY KEY,
    stream  TEXT    NOT NULL,
    version INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    bytes   BLOB    NOT NULL,
    leaf    BLOB    NOT NULL CHECK (length(leaf) = 32)
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
CREATE TRIGGER events_keep_what_they_say BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- Hashes of complete tiles (256 hashes of the level below); level 0 is events.leaf. Append-only.
CREATE TABLE tile_nodes (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER tile_nodes_keep_what_they_say BEFORE UPDATE ON tile_nodes
BEGIN SELECT RAISE(ABORT, 'tile nodes are append-only'); END;
CREATE TRIGGER tile_nodes_stay BEFORE DELETE ON tile_nodes
BEGIN SELECT RAISE(ABORT, 'tile nodes are append-only'); END;

-- The right edge of the tree over all events: one row.
CREATE TABLE frontier (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    bytes BLOB NOT NULL
) STRICT;

-- Signed heads.
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    note BLOB NOT NULL
) STRICT;

-- Projections, rebuilt from events when in doubt.
CREATE TABLE views (
    view  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (view, key)
) STRICT, WITHOUT ROWID;

-- Keys that count once until they expire.
CREATE TABLE remembered (
    scope      TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    value      BLOB    NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX remembered_by_expiry ON remembered (expires_ms);
