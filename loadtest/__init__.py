"""Drive the gateway and the model server with real arrival patterns, and measure honestly."""
