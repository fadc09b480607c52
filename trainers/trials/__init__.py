"""Many trainings: searches and queues, each trial in a process of its own."""
