"""Versions on disk, with their lineage."""
