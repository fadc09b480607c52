-- What the desk did a minute at a time. On plain PostgreSQL these are views, and cost what they look at; on TimescaleDB
-- they are continuous aggregates of the same names and columns (timescale/0003_by_minute.sql).
CREATE VIEW trail.decisions_by_minute AS
SELECT date_trunc('minute', event_time, 'UTC') AS minute, symbol, action, reason, count(*) AS decisions,
    sum(abs(quantity)) AS units, sum(abs(quantity * reference_price)) AS traded
FROM trail.decisions WHERE decision_id IS NOT NULL GROUP BY 1, 2, 3, 4;

CREATE VIEW trail.denied_sets_by_minute AS
SELECT date_trunc('minute', event_time, 'UTC') AS minute, broken_rules, count(*) AS decisions
FROM trail.decisions WHERE outcome = 'deny' GROUP BY 1, 2;

CREATE VIEW trail.latency_by_minute AS
SELECT date_trunc('minute', event_time, 'UTC') AS minute, count(*) AS decisions,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_us) AS p50_us,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_us) AS p99_us,
    percentile_cont(0.999) WITHIN GROUP (ORDER BY latency_us) AS p99_9_us, max(latency_us) AS max_us
FROM trail.decisions WHERE decision_id IS NOT NULL GROUP BY 1;

CREATE VIEW trail.books_by_minute AS
SELECT date_trunc('minute', event_time, 'UTC') AS minute, log, symbol,
    (array_agg(position_after ORDER BY record_offset DESC))[1] AS position,
    (array_agg(mid_price ORDER BY record_offset DESC))[1] AS mid_price
FROM trail.decisions WHERE decision_id IS NOT NULL AND mid_price IS NOT NULL GROUP BY 1, 2, 3;
