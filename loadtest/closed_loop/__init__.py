"""Locust's users wait for their answers; what that hides is put back."""
