-- A partition of a topic: its records are the leaves of one tree. A topic that is made anew is another one.
CREATE TABLE trail.logs (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text COLLATE "C" NOT NULL,
    topic_id text COLLATE "C" NOT NULL,
    topic_partition integer NOT NULL,
    kind text COLLATE "C" NOT NULL,
    UNIQUE (topic_id, topic_partition)
);

-- Records that were stored together. Each begins where the one before ended, and no two begin at one place: so no
-- record is stored twice, whoever writes.
CREATE TABLE trail.batches (
    log integer NOT NULL REFERENCES trail.logs,
    from_size bigint NOT NULL,
    to_size bigint NOT NULL CHECK (to_size > from_size),
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    first_event_time timestamptz NOT NULL,
    last_event_time timestamptz NOT NULL,
    root bytea NOT NULL,
    peaks bytea NOT NULL,
    PRIMARY KEY (log, from_size)
);

-- Hashes of complete subtrees of 256 leaves (level 8), of 256 such (level 16), and so on.
CREATE TABLE trail.tiles (
    log integer NOT NULL REFERENCES trail.logs,
    level smallint NOT NULL,
    tile_index bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (log, level, tile_index)
);

-- Signed sizes and roots of all trees; the same lines lie in a file and in Kafka.
CREATE TABLE trail.checkpoints (
    number bigint PRIMARY KEY,
    signed_at timestamptz NOT NULL,
    line bytea NOT NULL
);

-- What should not be: a record that differs from the one that is stored, records that were gone before they were read.
CREATE TABLE trail.alarms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raised_at timestamptz NOT NULL DEFAULT now(),
    kind text COLLATE "C" NOT NULL,
    log integer REFERENCES trail.logs,
    record_offset bigint,
    detail text NOT NULL,
    record bytea
);
