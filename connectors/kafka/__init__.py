"""Kafka: topics, clients, reading a log, offsets, errors."""
