"""A paper broker: accepted orders come back as fills."""
