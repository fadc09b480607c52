"""Latencies, results, and the machine while it is loaded."""
