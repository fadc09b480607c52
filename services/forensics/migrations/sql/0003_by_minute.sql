-- What stands above the minutes, the same on both. An aggregate may be grouped by an array and cannot unnest it.
CREATE VIEW trail.denials_by_minute AS
SELECT minute, unnest(broken_rules) AS rule, decisions FROM trail.denied_sets_by_minute;

-- Each book's last word of a minute: exposure is of the books that were decided in it.
CREATE VIEW trail.exposure_by_minute AS
SELECT minute, count(*) AS books, sum(abs(position * mid_price)) AS gross, sum(position * mid_price) AS net
FROM trail.books_by_minute GROUP BY minute;

GRANT SELECT ON trail.decisions_by_minute, trail.denied_sets_by_minute, trail.latency_by_minute, trail.books_by_minute,
    trail.denials_by_minute, trail.exposure_by_minute TO reader, forensics;
