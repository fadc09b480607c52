"""Limits as data, one rule a file, and the engine that asks them all."""
