"""Requests that an OpenAPI document allows, and that it does not, at the data service: none ends in a 500.

python -m tests.fuzz.api --cases 100000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from connectors.logs import configure
from tests.unit.services.data.api.test_app import Service

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def operations(service):
    """What the document names, and what makes requests for it: such as it allows, and such as it does not."""
    schema = schemathesis.openapi.from_dict(service.get("/openapi.json").json())
    for found in schema.get_all_operations():
        one = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            yield one, one.as_strategy(generation_mode=mode)


def send(service, case):
    """One request with a token, as it was generated otherwise; what is wrong is raised."""
    told = case.as_transport_kwargs("http://local")
    told["headers"] = {
        name: value.encode("utf-8", "surrogateescape")
        for name, value in {**told["headers"], "Authorization": f"Bearer {service.token}"}.items()
    }
    told.pop("cookies", None)
    method, url = told.pop("method"), told.pop("url")
    if told.get("data") is not None:
        told["content"] = told.pop("data")
    answered = service.client.request(method, url, **told)
    case.validate_response(Response.from_any(answered), checks=CHECKS)
    return answered.status_code


def run(cases, folder, show=lambda *_: None):
    """So many requests, over all operations; returns how many were answered with which status."""
    service = Service(folder, requests_per_s=10**9)
    # A tail has no end of its own.
    service.tails.closing = True
    counts = {}
    try:
        found = list(operations(service))
        for k, (operation, strategy) in enumerate(found):

            @settings(
                max_examples=max(1, cases // len(found)), deadline=None, database=None, derandomize=cases < 10_000,
                phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(strategy)
            def ask(case):
                status = send(service, case)
                counts[status] = counts.get(status, 0) + 1

            # What takes no parameter cannot be asked wrongly.
            with suppress(Unsatisfiable):
                ask()
            show(
                f"{k + 1}/{len(found)} {operation.method.upper()} {operation.path}: {sum(counts.values()):,} requests"
            )
    finally:
        service.close()
    return counts


def main():
    """Print what was answered; a request that is answered wrongly is shown, as small as it can be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="Print JSON on stdout.")
    asked = parser.parse_args()
    # To stderr, and no more than what matters.
    configure("error")
    began = time.monotonic()
    # Hypothesis talks to stdout, where a report's JSON must stand alone.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        counts = run(asked.cases, Path(folder), lambda line: print(line, file=sys.stderr))
    if asked.json:
        report = {"requests": sum(counts.values()), "by_status": counts, "answered_wrongly": 0}
        print(json.dumps(report))
        return
    told = ", ".join(f"{status}: {count:,}" for status, count in sorted(counts.items()))
    print(f"{sum(counts.values()):,} requests in {time.monotonic() - began:.0f} s, none answered wrongly ({told})")


if __name__ == "__main__":
    main()
