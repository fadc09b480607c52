"""Training as the command line, the demo and the tests call it."""
