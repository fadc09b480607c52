"""What the trail says of decisions, positions, money, models and limits; read as the role that may read."""
