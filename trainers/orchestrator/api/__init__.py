"""The orchestrator over HTTP: what runs, why, and what is wanted of it."""
