"""Processes beside the live path, one folder each."""
