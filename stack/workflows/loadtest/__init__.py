"""Load tests against a desk of this machine: what the command line and the benchmarks call."""
