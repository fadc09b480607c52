"""The data service: answers for what the desk knew, live and of the past."""
