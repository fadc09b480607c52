"""A drill: the whole desk hurt on purpose, each fault with the alert that must tell of it, and brought back."""
