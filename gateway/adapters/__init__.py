"""The only files of the gateway that import Kafka, Triton, Redis, PostgreSQL and Prometheus clients."""
