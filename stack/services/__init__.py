"""One real server a file: how it is prepared, started, asked and stopped."""
