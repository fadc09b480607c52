"""The one feature kernel, used live and in training."""
