"""A paper broker for demo and tests: orders come back as fills, in parts, late, dearer, or not at all."""
