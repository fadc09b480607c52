"""From a model's target to a decision with its whole evidence."""
