"""Locust, headless, as README says it is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def locust(host):
    arguments = ["-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "-u", "2", "-r", "2", "-t", "6s"]
    return subprocess.run(
        [sys.executable, "-m", "locust", *arguments, "--host", host],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )


def test_users_reach_the_served_ensemble_and_are_judged(stack, exported):
    done = locust(stack.triton_grpc)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    # How fast this machine is today is not the test's business; that the gate judged real answers is.
    held = "all targets held" in said
    assert done.returncode == (0 if held else 1), said
    assert held or "p99" in said, said
    assert "trading_decision infer batch 8" in said


def test_a_server_that_is_not_there_misses_the_targets_without_a_traceback():
    done = locust("127.0.0.1:1")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "missed:" in said
    assert "Traceback" not in said, said
