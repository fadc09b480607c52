-- A table a kind of record: partitioned by event time on plain PostgreSQL, a hypertable on TimescaleDB. The key holds
-- the time, because both ask for it; that an offset has one row is the batches' to keep.

CREATE TABLE trail.decisions (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    decision_id text COLLATE "C",
    symbol text COLLATE "C",
    action text COLLATE "C",
    reason text COLLATE "C",
    quantity double precision,
    reference_price double precision,
    mid_price double precision,
    position_before double precision,
    position_after double precision,
    target_position double precision,
    model_name text COLLATE "C",
    model_version text COLLATE "C",
    variant text COLLATE "C",
    trading_state text COLLATE "C",
    limits_version text COLLATE "C",
    outcome text COLLATE "C",
    broken_rules text[] COLLATE "C",
    decided_at timestamptz,
    latency_us double precision,
    trace_id text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
CREATE INDEX decisions_decision_id ON trail.decisions (decision_id);

CREATE TABLE trail.orders (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    order_id text COLLATE "C",
    symbol text COLLATE "C",
    kind text COLLATE "C",
    quantity double precision,
    price double precision,
    left_quantity double precision,
    account text COLLATE "C",
    strategy text COLLATE "C",
    sent_at timestamptz,
    trace_id text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
CREATE INDEX orders_order_id ON trail.orders (order_id);

CREATE TABLE trail.fills (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    order_id text COLLATE "C",
    symbol text COLLATE "C",
    kind text COLLATE "C",
    sequence bigint,
    quantity double precision,
    price double precision,
    fee double precision,
    left_quantity double precision,
    reason text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
CREATE INDEX fills_order_id ON trail.fills (order_id);

CREATE TABLE trail.dead_letters (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    tick_topic text COLLATE "C",
    tick_partition bigint,
    tick_offset bigint,
    reason text COLLATE "C",
    trace_id text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
CREATE INDEX dead_letters_tick_offset ON trail.dead_letters (tick_offset);

CREATE TABLE trail.commands (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    kind text COLLATE "C",
    setting text COLLATE "C",
    reason text COLLATE "C",
    set_by text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};

CREATE TABLE trail.releases (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    release_id text COLLATE "C",
    step text COLLATE "C",
    action text COLLATE "C",
    model text COLLATE "C",
    version bigint,
    released_by text COLLATE "C",
    reason text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};

CREATE TABLE trail.experiments (
    log integer NOT NULL,
    record_offset bigint NOT NULL,
    leaf_index bigint NOT NULL,
    event_time timestamptz NOT NULL,
    timestamp_type smallint NOT NULL,
    timestamp_ms bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea,
    leaf bytea NOT NULL,
    unreadable text COLLATE "C",
    experiment text COLLATE "C",
    event text COLLATE "C",
    set_by text COLLATE "C",
    reason text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
