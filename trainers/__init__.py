"""Learn the models from market history, through the same feature kernel that is used live."""
