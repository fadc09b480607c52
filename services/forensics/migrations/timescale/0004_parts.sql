-- Documented calls of TimescaleDB 2.22 only.
SELECT create_hypertable('trail.starts', by_range('event_time', INTERVAL '30 days'));

-- Chunks of the tables that may be retired, all of whose events are older than a time: table, and chunk with its schema.
CREATE FUNCTION trail.parts_before(cutoff timestamptz, OUT kind text, OUT part text) RETURNS SETOF record
LANGUAGE sql STABLE AS $$
    SELECT hypertable_name::text, format('%I.%I', chunk_schema, chunk_name)
    FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'trail' AND hypertable_name IN ('decisions', 'orders', 'fills', 'dead_letters')
        AND range_end <= cutoff
    ORDER BY 1, 2
$$;

-- By its range, which is one chunk's: a table of TimescaleDB's is not dropped by hand.
CREATE FUNCTION trail.drop_part(kind text, part text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz;
    following timestamptz;
BEGIN
    SELECT range_start, range_end INTO STRICT first, following FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'trail' AND hypertable_name = kind AND format('%I.%I', chunk_schema, chunk_name) = part;
    PERFORM drop_chunks(format('trail.%I', kind)::regclass, older_than => following, newer_than => first);
END
$$;
