"""The networks, what each learns from, and the teachers of regimes."""
