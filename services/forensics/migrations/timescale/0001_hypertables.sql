-- Hypertables by event time, a chunk a day. Documented calls of TimescaleDB 2.22 only.
SELECT create_hypertable('trail.decisions', by_range('event_time', INTERVAL '1 day'));
SELECT create_hypertable('trail.orders', by_range('event_time', INTERVAL '1 day'));
SELECT create_hypertable('trail.fills', by_range('event_time', INTERVAL '1 day'));
SELECT create_hypertable('trail.dead_letters', by_range('event_time', INTERVAL '1 day'));
SELECT create_hypertable('trail.commands', by_range('event_time', INTERVAL '30 days'));
SELECT create_hypertable('trail.releases', by_range('event_time', INTERVAL '30 days'));
SELECT create_hypertable('trail.experiments', by_range('event_time', INTERVAL '30 days'));

-- Chunks make themselves.
CREATE FUNCTION trail.ensure_partition(kind text, event_time timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
REVOKE EXECUTE ON FUNCTION trail.ensure_partition(text, timestamptz) FROM PUBLIC;

-- Compressed after a day. The key's columns must be among these.
ALTER TABLE trail.decisions SET (
    timescaledb.enable_columnstore = true, timescaledb.segmentby = 'log', timescaledb.orderby = 'record_offset, event_time'
);
ALTER TABLE trail.orders SET (
    timescaledb.enable_columnstore = true, timescaledb.segmentby = 'log', timescaledb.orderby = 'record_offset, event_time'
);
ALTER TABLE trail.fills SET (
    timescaledb.enable_columnstore = true, timescaledb.segmentby = 'log', timescaledb.orderby = 'record_offset, event_time'
);
ALTER TABLE trail.dead_letters SET (
    timescaledb.enable_columnstore = true, timescaledb.segmentby = 'log', timescaledb.orderby = 'record_offset, event_time'
);
CALL add_columnstore_policy('trail.decisions', after => INTERVAL '1 day');
CALL add_columnstore_policy('trail.orders', after => INTERVAL '1 day');
CALL add_columnstore_policy('trail.fills', after => INTERVAL '1 day');
CALL add_columnstore_policy('trail.dead_letters', after => INTERVAL '1 day');
