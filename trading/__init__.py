"""The pure domain that live path, training and research share: no client, no socket, no settings."""
