"""Ticks and features on disk, as they were lived."""
