-- Continuous aggregates, with what has come since they were refreshed. Documented calls of TimescaleDB 2.22 only. A feed
-- of recorded ticks brings minutes of any year: nothing is too old to be looked at again.
CREATE MATERIALIZED VIEW trail.decisions_by_minute
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 minute', event_time) AS minute, symbol, action, reason, count(*) AS decisions,
    sum(abs(quantity)) AS units, sum(abs(quantity * reference_price)) AS traded
FROM trail.decisions WHERE decision_id IS NOT NULL GROUP BY 1, 2, 3, 4 WITH NO DATA;

CREATE MATERIALIZED VIEW trail.denied_sets_by_minute
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 minute', event_time) AS minute, broken_rules, count(*) AS decisions
FROM trail.decisions WHERE outcome = 'deny' GROUP BY 1, 2 WITH NO DATA;

CREATE MATERIALIZED VIEW trail.latency_by_minute
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 minute', event_time) AS minute, count(*) AS decisions,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_us) AS p50_us,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_us) AS p99_us,
    percentile_cont(0.999) WITHIN GROUP (ORDER BY latency_us) AS p99_9_us, max(latency_us) AS max_us
FROM trail.decisions WHERE decision_id IS NOT NULL GROUP BY 1 WITH NO DATA;

CREATE MATERIALIZED VIEW trail.books_by_minute
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 minute', event_time) AS minute, log, symbol,
    last(position_after, record_offset) AS position, last(mid_price, record_offset) AS mid_price
FROM trail.decisions WHERE decision_id IS NOT NULL AND mid_price IS NOT NULL GROUP BY 1, 2, 3 WITH NO DATA;

SELECT add_continuous_aggregate_policy('trail.decisions_by_minute', start_offset => NULL,
    end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute');
SELECT add_continuous_aggregate_policy('trail.denied_sets_by_minute', start_offset => NULL,
    end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute');
SELECT add_continuous_aggregate_policy('trail.latency_by_minute', start_offset => NULL,
    end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute');
SELECT add_continuous_aggregate_policy('trail.books_by_minute', start_offset => NULL,
    end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute');
