"""From a registered model to a verified, published version of a Triton model repository."""
