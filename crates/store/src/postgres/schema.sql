-- The shared store, schema 1. Times are milliseconds since 1970, hashes 32 bytes.
-- Names compare by bytes, so that every server sorts them alike.

CREATE SCHEMA IF NOT EXISTS bailiwick;

CREATE TABLE bailiwick.schema_version (
    one     integer PRIMARY KEY CHECK (one = 1),
    version integer NOT NULL
);

CREATE FUNCTION bailiwick.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are append-only', TG_TABLE_NAME;
END
$$;

-- The ledger: one row per event, in commit order without gaps. Append-only.
CREATE TABLE bailiwick.events (
    idx     bigint PRIMARY KEY CHECK (idx >= 0),
    stream  text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    time_ms bigint NOT NULL,
    kind    text NOT NULL,
    bytes   bytea NOT NULL,
    leaf    bytea NOT NULL CHECK (length(leaf) = 32),
    UNIQUE (stream, version)
);
CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON bailiwick.events
    FOR EACH STATEMENT EXECUTE FUNCTION bailiwick.refuse_change();

-- Hashes of complete tiles (256 hashes of the level below); level 0 is events.leaf. Append-only.
CREATE TABLE bailiwick.tile_nodes (
    level integer NOT NULL,
    idx   bigint NOT NULL,
    hash  bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
);
CREATE TRIGGER tile_nodes_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON bailiwick.tile_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION bailiwick.refuse_change();

-- The right edge of the tree over all events: one row. Whoever holds its lock is the writer of the moment,
-- which makes commit order and index order the same.
CREATE TABLE bailiwick.frontier (
    one   integer PRIMARY KEY CHECK (one = 1),
    bytes bytea NOT NULL
) WITH (fillfactor = 10);

-- Signed heads.
CREATE TABLE bailiwick.checkpoints (
    size bigint PRIMARY KEY,
    note bytea NOT NULL
);

-- Projections, rebuilt from events when in doubt.
CREATE TABLE bailiwick.views (
    view  text COLLATE "C" NOT NULL,
    key   text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (view, key)
);

-- Keys that count once until they expire.
CREATE TABLE bailiwick.remembered (
    scope      text COLLATE "C" NOT NULL,
    key        bytea NOT NULL,
    value      bytea NOT NULL,
    expires_ms bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX remembered_by_expiry ON bailiwick.remembered (expires_ms);
