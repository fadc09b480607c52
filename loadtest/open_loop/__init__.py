"""Arrivals fixed beforehand, whatever the answers do."""
