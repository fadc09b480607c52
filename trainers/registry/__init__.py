"""What is logged and registered in MLflow, and what a challenger must pass."""
