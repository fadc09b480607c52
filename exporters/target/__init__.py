"""Containers and GPUs: what each reads, needs and holds; measured batching."""
