"""What is watched, by whom, and what wakes a person: one source for the embedded stack, compose and Kubernetes."""
