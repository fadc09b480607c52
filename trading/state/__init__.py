"""Everything that decides, a partition: kept, encoded and rebuilt from a log."""
