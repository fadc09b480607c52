"""Decisions made again from the log, and compared with those that were published."""
