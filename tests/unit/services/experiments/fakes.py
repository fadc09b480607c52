"""Hand-written fakes, one a port of services/experiments/ports.py."""

from __future__ import annotations

import numpy as np

from trading.models.prediction import Prediction


class FakeClock:
    """Stands still until somebody sleeps, or a call takes its time."""

    def __init__(self):
        self.now_s = 100.0
        self.slept = []

    def monotonic_ns(self):
        return round(self.now_s * 1e9)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


class FakeModel:
    """Wants `target` of every row, and takes `took_s`; raises what it was given instead, in order."""

    def __init__(self, clock, target=0.5, took_s=0.01, failures=()):
        self.clock, self.target, self.took_s, self.failures = clock, target, took_s, list(failures)
        self.asked = []

    def predict(self, features, timeout_s):
        self.asked.append(features.copy())
        self.clock.now_s += self.took_s
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        n = len(features)
        valid = features[:, 0] >= 0.0
        ones = np.ones((n, 3), np.float32)
        weights = np.full((n, 7), 1 / 7, np.float32)
        return Prediction(ones / 3, weights, weights, np.full(n, self.target), valid, "2")


class FakeDeskLog:
    """Gives the polls that it was given, then nothing."""

    def __init__(self, polls, partitions):
        self.polls, self.partitions = list(polls), partitions
        self.ended, self.taken = set(), dict.fromkeys(partitions, 0)

    def poll(self, timeout_s):
        found = self.polls.pop(0) if self.polls else {}
        if isinstance(found, Exception):
            raise found
        for partition, rows in found.items():
            self.taken[partition] += len(rows)
        self.ended = set(self.partitions) - found.keys() if self.polls else set(self.partitions)
        return found

    def position(self, partition):
        return self.taken[partition]

    def decided(self, partition):
        return self.taken[partition] - 1

    def at_end(self, partition):
        return partition in self.ended
