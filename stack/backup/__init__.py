"""A desk's home folder put aside while it rests, and brought back where there is none."""
