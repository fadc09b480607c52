"""Experiments: models compared on live ticks, with answers that hold whenever somebody looks."""
