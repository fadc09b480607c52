"""Somebody whom Alertmanager tells: a webhook on a free port of this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack.servers.settings import LOOPBACK

FIRING = "firing"


def began_s(alert: dict[str, Any]) -> float:
    """When its rule fired: wall time in seconds."""
    return datetime.fromisoformat(alert["startsAt"]).timestamp()


class Told:
    """What came, and when: wall time in seconds, and the alert as Alertmanager words it."""

    def __init__(self) -> None:
        self.address = ""
        self.came: list[tuple[float, dict[str, Any]]] = []

    def names(self, status: str = FIRING) -> set[str]:
        """Alerts that came with a status."""
        return {one["labels"]["alertname"] for _, one in list(self.came) if one["status"] == status}

    def first(self, name: str, status: str = FIRING, since_s: float = 0.0) -> tuple[float, dict[str, Any]] | None:
        """When an alert that began after a moment came first, and the alert; None where none did."""
        return next(
            (
                (at_s, one)
                for at_s, one in list(self.came)
                if one["labels"]["alertname"] == name and one["status"] == status and began_s(one) >= since_s
            ),
            None,
        )


@contextmanager
def receiving() -> Iterator[Told]:
    """A receiver, as long as this lasts."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.came += [(time.time(), one) for one in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    told.address = f"http://{LOOPBACK}:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, name="told", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
