"""How many users there are, and when: one file a shape, given to Locust beside the locustfile."""
