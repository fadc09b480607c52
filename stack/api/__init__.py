"""The stack over HTTP: what a console and scripts may see and do, on loopback and with a token."""
