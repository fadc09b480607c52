"""Where MLflow is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from connectors.mlflow_address import refuse_silent
from trading.errors import ConfigurationError, ServiceUnavailable

USES = """
import os, sys
from connectors.mlflow import mlflow, use
use(sys.argv[1])
print(mlflow.get_tracking_uri(), mlflow.get_registry_uri(), os.environ.get("MLFLOW_TRACKING_URI", "-"))
"""


def test_who_listens_is_asked_and_who_does_not_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refuse_silent(f"http://127.0.0.1:{port}/some/path")
    with pytest.raises(ServiceUnavailable, match=r"does not answer: .* --mlflow-uri .*\(Connection refused\)"):
        refuse_silent(f"http://127.0.0.1:{port}")
    for other in ("sqlite:///x.db", "file:/tmp/x", "databricks", "./mlruns"):
        refuse_silent(other)
    for wrong in ("http://x:99999999", "http://[::1"):
        with pytest.raises(ConfigurationError, match="is no address of MLflow"):
            refuse_silent(wrong)


def test_a_name_that_is_looked_for_for_ever_is_waited_for_no_longer(monkeypatch):
    """A resolver that hangs: libc's own patience is ten seconds."""
    over = threading.Event()

    def hanging(*_, **__):
        assert over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    before = set(threading.enumerate())
    try:
        with pytest.raises(ServiceUnavailable, match="no connection within 2 s"):
            refuse_silent("http://mlflow.example:5000")
        assert not over.is_set()
    finally:
        over.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(30)


def test_no_message_tells_a_password():
    for uri in ("http://anna:hunter22@127.0.0.1:9", "http://anna:hunter22@x:99999999"):
        with pytest.raises((ServiceUnavailable, ConfigurationError)) as caught:
            refuse_silent(uri)
        assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_what_can_be_no_host_is_a_sentence(host):
    with pytest.raises(ServiceUnavailable, match="can be no name of a host|Name or service not known"):
        refuse_silent(f"http://{host}:5000")


def test_what_a_proxy_of_all_finds_is_left_to_it(monkeypatch):
    with pytest.raises(ServiceUnavailable):
        refuse_silent("http://mlflow.example:5000")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    refuse_silent("http://mlflow.example:5000")


def test_what_a_proxy_finds_is_left_to_it(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost")
    refuse_silent("http://mlflow.example:5000")
    with pytest.raises(ServiceUnavailable):
        refuse_silent("http://localhost:9")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "http://a http://a -"),
        ({"MLFLOW_REGISTRY_URI": "http://r"}, "http://a http://a -"),
        ({"MLFLOW_TRACKING_URI": "http://a", "MLFLOW_REGISTRY_URI": "http://r"}, "http://a http://r http://a"),
        ({"MLFLOW_TRACKING_URI": "http://b", "MLFLOW_REGISTRY_URI": "http://r"}, "http://a http://a http://b"),
    ],
)
def test_a_persons_variables_stay_and_name_the_registry_beside_his_own_server(given, told):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", USES, "http://a"], env={**bare, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == told
