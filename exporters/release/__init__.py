"""What is served: probe, flip, journal, and the way back."""
