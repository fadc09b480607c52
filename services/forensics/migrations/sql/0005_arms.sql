-- Without a default, so that TimescaleDB's compressed parts take them as they are.
ALTER TABLE trail.decisions
    ADD COLUMN experiment text,
    ADD COLUMN assigned text,
    ADD COLUMN fallback text;
