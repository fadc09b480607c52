"""The orchestrator wired: what each step of a run does, on this desk's servers, and what it looks at."""
