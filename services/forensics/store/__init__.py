"""The trail in PostgreSQL or TimescaleDB: who writes may add, who reads may read."""
