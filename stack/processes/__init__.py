"""Our own processes: one way to start each."""
