"""Kafka: topics, clients, reading a log, errors."""
