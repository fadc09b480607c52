"""A shell's proxies, folders and certificates do not reach what is on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stack.servers.surroundings import CERTIFICATES, settle


@pytest.mark.parametrize("given", ["", "example.org", "example.org, localhost", "127.0.0.1,localhost,::1"])
def test_loopback_is_never_proxied_and_others_as_before(given):
    found = {"http_proxy": "http://proxy:3128", "no_proxy": given, "NO_PROXY": given}
    settle(found)
    settle(found)
    for name in ("no_proxy", "NO_PROXY"):
        hosts = found[name].split(",")
        assert {"127.0.0.1", "localhost", "::1"} < set(hosts) | {""}
        assert len(hosts) == len(set(hosts))
        assert ("example.org" in hosts) == ("example.org" in given)
    assert "no_grpc_proxy" not in found


def test_grpcs_own_list_is_kept_and_added_to():
    found = {"no_grpc_proxy": "far.example.org"}
    settle(found)
    assert found["no_grpc_proxy"] == "far.example.org,127.0.0.1,localhost,::1"


def test_one_file_of_certificate_authorities_is_enough():
    found = {"SSL_CERT_FILE": "/house.pem", "CURL_CA_BUNDLE": "/other.pem"}
    settle(found)
    assert {name: found[name] for name in CERTIFICATES} == dict.fromkeys(CERTIFICATES, "/house.pem") | {
        "CURL_CA_BUNDLE": "/other.pem"
    }
    found = {}
    settle(found)
    assert not set(CERTIFICATES) & set(found)


def test_what_is_started_takes_no_module_from_the_working_folder(tmp_path):
    (tmp_path / "calendar.py").write_text("raise SystemExit('the wrong calendar')")
    environment = dict(os.environ)
    settle(environment)
    done = subprocess.run(
        [sys.executable, "-m", "json.tool", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", "import calendar; print(calendar.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert str(tmp_path) not in done.stdout
    assert done.returncode == 0


def test_what_is_said_in_one_spelling_holds_in_both():
    for said in ("no_proxy", "NO_PROXY"):
        found = {"http_proxy": "http://proxy:3128", said: "mlflow.corp, 10.0.0.0/8"}
        settle(found)
        assert found["no_proxy"] == found["NO_PROXY"] == "mlflow.corp,10.0.0.0/8,127.0.0.1,localhost,::1"
        every = {said: "*"}
        settle(every)
        assert every["no_proxy"] == every["NO_PROXY"] == "*"
