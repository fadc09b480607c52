"""The SQL of every question to the trail; spans of time are bounded by the batches' times."""

from __future__ import annotations

#: What a decision is listed with, in this order: `api.models.DecisionItem`.
DECISION_COLUMNS = (
    "record_offset", "decision_id", "symbol", "event_time", "action", "reason", "quantity", "reference_price",
    "mid_price", "position_before", "position_after", "target_position", "model_name", "model_version", "variant",
    "trading_state", "limits_version", "outcome", "broken_rules", "decided_at", "latency_us", "trace_id",
    "experiment", "assigned", "fallback",
)  # fmt: skip
_COLUMNS = ", ".join(f"d.{name}" for name in DECISION_COLUMNS)

#: In the order of the logs; a cursor is a log and an offset. A span of time narrows the offsets that are looked at.
DECISIONS = f"""
WITH spans AS MATERIALIZED (
    SELECT b.log, min(b.first_offset) AS first, max(b.last_offset) AS last
    FROM trail.batches b JOIN trail.logs l ON l.id = b.log
    WHERE l.kind = 'decisions' AND b.last_event_time >= %(since)s AND b.first_event_time < %(until)s
    GROUP BY b.log
)
SELECT d.log, {_COLUMNS}
FROM spans CROSS JOIN LATERAL (
    SELECT * FROM trail.decisions d
    WHERE d.log = spans.log AND d.record_offset BETWEEN spans.first AND spans.last
        AND d.event_time >= %(since)s AND d.event_time < %(until)s
        AND d.decision_id IS NOT NULL AND (d.log, d.record_offset) > (%(log)s, %(offset)s)
        {{filters}}
    ORDER BY d.record_offset LIMIT %(limit)s
) d
ORDER BY d.log, d.record_offset LIMIT %(limit)s
"""  # noqa: S608 - constants
FILTERS = {
    "symbol": "AND d.symbol = %(symbol)s",
    "action": "AND d.action = %(action)s",
    "reason": "AND d.reason = %(reason)s",
    "outcome": "AND d.outcome = %(outcome)s",
    # It is recorded as NAME@OFFSET of the command that divided its units.
    "experiment": "AND %(experiment)s IN (d.experiment, split_part(d.experiment, '@', 1))",
    "assigned": "AND d.assigned = %(assigned)s",
}
#: Of decisions that were stored after these places: for a live tail.
NEWEST_PLACES = """
SELECT l.id, coalesce((SELECT max(last_offset) FROM trail.batches b WHERE b.log = l.id), -1)
FROM trail.logs l WHERE l.kind = 'decisions' ORDER BY l.id
"""
FOLLOWING = f"""
SELECT d.log, {_COLUMNS} FROM trail.decisions d
WHERE d.log = %(log)s AND d.record_offset > %(offset)s AND d.decision_id IS NOT NULL {{filters}}
ORDER BY d.record_offset LIMIT %(limit)s
"""  # noqa: S608 - constants
RECORD = """
SELECT d.log, d.record_offset, d.value, l.topic, l.topic_partition
FROM trail.decisions d JOIN trail.logs l ON l.id = d.log
WHERE d.decision_id = %(id)s ORDER BY d.log DESC, d.record_offset LIMIT 1
"""
#: Every symbol once, by the index: from one to the next.
_SYMBOLS = """
WITH RECURSIVE symbols AS (
    (SELECT symbol FROM trail.decisions WHERE symbol IS NOT NULL ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT d.symbol FROM trail.decisions d WHERE d.symbol > s.symbol ORDER BY d.symbol LIMIT 1)
    FROM symbols s WHERE s.symbol IS NOT NULL
)
"""
#: Of each partition's newest log the newest decision of each symbol: a book a partition.
_BOOKS = """
, logs AS (
    SELECT DISTINCT ON (topic, topic_partition) id, topic_partition FROM trail.logs
    WHERE kind = 'decisions' ORDER BY topic, topic_partition, id DESC
)
"""
NEWEST = f"""
{_SYMBOLS} {_BOOKS}
SELECT d.log, {_COLUMNS}, d.value, l.topic_partition
FROM symbols s CROSS JOIN logs l CROSS JOIN LATERAL (
    SELECT * FROM trail.decisions d
    WHERE d.symbol = s.symbol AND d.log = l.id ORDER BY d.record_offset DESC LIMIT 1
) d WHERE s.symbol IS NOT NULL AND (%(symbol)s::text IS NULL OR s.symbol = %(symbol)s)
ORDER BY d.symbol, l.topic_partition
"""  # noqa: S608 - constants
#: Marked to market: what was paid and received, and what the position was worth at both ends of the span. Where the
#: broker reported on any of the span's orders his fills are what was traded, and what the position ended with; else
#: an accepted order counts as filled at its reference price. A book is a symbol's of a partition; the first record
#: of a decision counts, and of a report.
PROFIT = """
WITH mine AS MATERIALIZED (
    SELECT DISTINCT ON (d.decision_id) d.decision_id, d.symbol, l.topic_partition AS book, d.log, d.record_offset,
        d.event_time, d.action, d.quantity, d.reference_price, d.mid_price, d.position_before, d.position_after
    FROM trail.decisions d JOIN trail.logs l ON l.id = d.log
    WHERE d.event_time >= %(since)s AND d.event_time < %(until)s AND d.mid_price IS NOT NULL
        AND (%(symbol)s::text IS NULL OR d.symbol = %(symbol)s)
    ORDER BY d.decision_id, d.log, d.record_offset
), reports AS MATERIALIZED (
    SELECT DISTINCT ON (f.order_id, f.sequence) m.symbol, m.book, f.kind, f.quantity, f.price, f.fee
    FROM mine m JOIN trail.fills f ON f.order_id = m.decision_id WHERE m.action <> 'hold'
    ORDER BY f.order_id, f.sequence, f.log, f.record_offset
), reported AS (
    SELECT EXISTS (SELECT FROM reports) AS any
), orders AS (
    SELECT symbol, book, count(*) AS orders, sum(abs(quantity * reference_price)) AS traded,
        sum(-quantity * reference_price) AS cash
    FROM mine WHERE action <> 'hold' GROUP BY 1, 2
), fills AS (
    SELECT symbol, book, sum(quantity) AS quantity, sum(abs(quantity * price)) AS traded, sum(fee) AS fees,
        sum(-quantity * price) AS cash
    FROM reports WHERE kind = 'fill' GROUP BY 1, 2
), ends AS (
    SELECT DISTINCT symbol, book,
        first_value(position_before) OVER w AS opening, first_value(mid_price) OVER w AS opening_mid,
        last_value(position_after) OVER w AS closing, last_value(mid_price) OVER w AS closing_mid,
        first_value(event_time) OVER w AS since, last_value(event_time) OVER w AS until
    FROM mine WINDOW w AS (
        PARTITION BY symbol, book ORDER BY log, record_offset
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
), books AS (
    SELECT e.symbol, e.since, e.until, e.opening, coalesce(o.orders, 0) AS orders, r.any AS from_fills,
        CASE WHEN r.any THEN e.opening + coalesce(f.quantity, 0) ELSE e.closing END AS closing,
        CASE WHEN r.any THEN coalesce(f.traded, 0) ELSE coalesce(o.traded, 0) END AS traded,
        coalesce(f.fees, 0) AS fees,
        CASE WHEN r.any THEN coalesce(f.cash, 0) ELSE coalesce(o.cash, 0) END AS cash, e.opening_mid, e.closing_mid
    FROM ends e CROSS JOIN reported r LEFT JOIN orders o USING (symbol, book) LEFT JOIN fills f USING (symbol, book)
)
SELECT symbol, min(since), max(until), sum(opening), sum(closing), sum(orders)::bigint, sum(traded), sum(fees),
    bool_and(from_fills), sum(cash - fees + closing * closing_mid - opening * opening_mid)
FROM books GROUP BY symbol ORDER BY symbol
"""
MODELS = """
SELECT DISTINCT ON (model, version) model, version, action, step, event_time, released_by, reason
FROM trail.releases WHERE model IS NOT NULL ORDER BY model, version, event_time DESC, record_offset DESC
"""
DECIDING = f"""
{_SYMBOLS} {_BOOKS}
SELECT d.model_name, d.model_version, d.variant, count(DISTINCT d.symbol)
FROM symbols s CROSS JOIN logs l CROSS JOIN LATERAL (
    SELECT * FROM trail.decisions d
    WHERE d.symbol = s.symbol AND d.log = l.id ORDER BY d.record_offset DESC LIMIT 1
) d WHERE s.symbol IS NOT NULL AND d.model_version <> '' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 - constants
LIMITS = """
SELECT record_offset, value FROM trail.commands WHERE kind = 'limits' ORDER BY log DESC, record_offset DESC LIMIT 1
"""
