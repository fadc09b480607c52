"""One real server a file, and what supervises them."""
