"""A registered model, fetched and opened where it can do no harm."""
