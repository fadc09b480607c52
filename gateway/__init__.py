"""The live path from a tick to a decision, and the code that training shares with it."""
