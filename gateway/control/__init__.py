"""What a person tells every gateway: trading state, limits, commands, and dead letters sent again."""
