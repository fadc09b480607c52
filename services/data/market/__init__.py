"""Ticks read as the gateway reads them, and the features that it saw."""
