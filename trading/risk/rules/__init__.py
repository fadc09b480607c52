"""One risk rule a file, its proof beside it."""
