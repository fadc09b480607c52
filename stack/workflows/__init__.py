"""Trainers, exporters and servers wired into the jobs that commands run."""
