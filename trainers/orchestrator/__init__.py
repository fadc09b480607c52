"""Trainings that run by themselves: schedules, triggers, a durable cycle in PostgreSQL, and what starts its steps.

PostgreSQL holds what is true: a run's step, who works on it, and until when (a lease). Whoever works knows a number
that only grows (a fence): what comes with an older one changes nothing. The queue only wakes workers up.
"""
