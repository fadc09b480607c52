"""Breaks a running desk on purpose and proves, byte by byte, that nothing came of it."""
