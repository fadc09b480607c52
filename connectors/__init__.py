"""The only files that import the clients of Kafka, Redis, PostgreSQL, Triton and MLflow."""
