"""Starts the real services without Docker, and wires the command line."""
