-- Leaves of records that were old enough to go: trees and proofs need them still. The owner alone writes here.
-- A row is a run of consecutive leaves, 32 bytes each, with the offsets that their records had.
CREATE TABLE trail.retired (
    log integer NOT NULL REFERENCES trail.logs,
    first_index bigint NOT NULL,
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    record_offsets bigint[] NOT NULL,
    leaves bytea NOT NULL CONSTRAINT leaves_are_whole CHECK (octet_length(leaves) = 32 * cardinality(record_offsets)),
    retired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log, first_index)
);
CREATE INDEX retired_last_offset ON trail.retired (log, last_offset);
GRANT SELECT ON trail.retired TO forensics, reader;
REVOKE EXECUTE ON FUNCTION trail.parts_before(timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION trail.drop_part(text, text) FROM PUBLIC;
