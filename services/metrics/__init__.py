"""What Prometheus is told of the servers around us, by the names that their usual exporters give it."""
