"""What is asked of a supervisor is taken once, in order, and not by one that starts later."""

from __future__ import annotations

import time

from stack.supervision import requests


def test_requests_are_taken_once_and_in_order(tmp_path):
    requests.ask(tmp_path, "restart", "gateway", "why")
    time.sleep(0.01)
    requests.ask(tmp_path, "apply")
    assert [(r.action, r.name, r.reason) for r in requests.take(tmp_path)] == [
        ("restart", "gateway", "why"),
        ("apply", "", ""),
    ]
    assert requests.take(tmp_path) == []


def test_an_old_request_and_rubbish_are_thrown_away(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "STALE_S", -1.0)
    requests.ask(tmp_path, "restart", "gateway")
    (requests.folder(tmp_path) / "x.json").write_text('{"action": "explode"}')
    assert requests.take(tmp_path) == []
    assert list(requests.folder(tmp_path).iterdir()) == []


def test_nobody_asked(tmp_path):
    assert requests.take(tmp_path) == []
