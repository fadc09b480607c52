"""Somebody whom Alertmanager tells."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Told:
    """What came, and when."""

    def __init__(self, address):
        self.address, self.came = address, []

    def names(self, status="firing"):
        """Alerts that came with a status."""
        return {one["labels"]["alertname"] for _, one in list(self.came) if one["status"] == status}

    def first(self, name, status="firing"):
        """When an alert came first: wall time, and the alert; None where it did not."""
        return next(
            ((at, one) for at, one in list(self.came)
             if one["labels"]["alertname"] == name and one["status"] == status), None,
        )  # fmt: skip


@contextmanager
def receiving():
    """A receiver on a free port."""
    told = Told("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.came += [(time.time(), one) for one in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.address = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
