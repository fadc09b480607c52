-- What each gateway said of itself when it began to ask a version.
CREATE TABLE trail.starts (
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
    event text COLLATE "C",
    instance text COLLATE "C",
    model_name text COLLATE "C",
    model_version text COLLATE "C",
    server text COLLATE "C",
    account text COLLATE "C",
    strategy text COLLATE "C",
    decisions_topic_id text COLLATE "C",
    PRIMARY KEY (log, record_offset, event_time)
){partitioned};
GRANT SELECT ON trail.starts TO forensics, reader;
GRANT INSERT ON trail.starts TO forensics;
