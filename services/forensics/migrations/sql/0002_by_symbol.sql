-- Decisions of a symbol in the order of their logs, and its newest: what the data service is asked most.
CREATE INDEX decisions_symbol ON trail.decisions (symbol, log, record_offset);
