"""What `ultrathink risk` says: explanations, simulations, plots."""
