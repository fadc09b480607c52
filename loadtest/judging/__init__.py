"""Targets, gates, and comparisons of runs."""
