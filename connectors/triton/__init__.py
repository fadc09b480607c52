"""Triton: its clients by protocol, each imported by who speaks it, and what they raise."""
