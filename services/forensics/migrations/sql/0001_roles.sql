-- Who writes may add and read, and nothing else; who reads may read.
GRANT USAGE ON SCHEMA trail TO forensics, reader;
GRANT SELECT ON ALL TABLES IN SCHEMA trail TO forensics, reader;
GRANT INSERT ON trail.decisions, trail.orders, trail.fills, trail.dead_letters, trail.commands, trail.releases,
    trail.experiments, trail.logs, trail.batches, trail.tiles, trail.checkpoints, trail.alarms TO forensics;
GRANT EXECUTE ON FUNCTION trail.ensure_partition(text, timestamptz) TO forensics;
