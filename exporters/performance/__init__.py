"""How long a served model takes, measured; and the configuration that is quickest."""
