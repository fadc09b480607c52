"""The audit trail: every published decision, kept where it can be asked for, off the latency path."""
