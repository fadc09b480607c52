"""Experiments on this desk: wired, run, and shown."""
