"""Triton's own figures count what our backends cannot answer: TritonFailures reads nothing else."""

from __future__ import annotations

import re

import httpx

from stack.drill.bad_model import NAME, bad_model
from tests.waiting import eventually

FAILURES = re.compile(
    rf'nv_inference_request_failure\{{model="{NAME}_\w+",reason="BACKEND",version="1"\}} ([1-9]\d*)'
)


def test_a_call_that_fails_is_a_failure_to_triton(stack):
    address = f"http://127.0.0.1:{stack.ports.triton_metrics}/metrics"
    with bad_model(stack.triton_grpc) as model:
        assert model.take(1.0)
        assert FAILURES.search(httpx.get(address).text) is None
        assert model.fail()
        # Triton gathers its figures every two seconds.
        assert eventually(lambda: FAILURES.search(httpx.get(address).text), 20)
