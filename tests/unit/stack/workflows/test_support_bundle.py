"""No secret that is planted anywhere is in the archive, and what is no secret is."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from stack.servers.settings import ServerPorts, StackSettings
from stack.workflows.support_bundle import Scrubber, write_bundle

PLANTED = {
    "redis": "R3dis-hunter2-pass",
    "postgres-reader": "pg_reader_PASS_77",
    "gateway-admin": "adm1n-token-xyz",
    "data-tokens.json": json.dumps({"console": {"token": "tok_console_abcdef_0123456789", "scopes": ["market"]}}),
    "forensics-signing-key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHplanted\n-----END PRIVATE KEY-----\n",
}
VALUES = [
    "R3dis-hunter2-pass",
    "pg_reader_PASS_77",
    "adm1n-token-xyz",
    "tok_console_abcdef_0123456789",
    "MC4CAQAwBQYDK2VwBCIEIHplanted",
]
#: Of other people: nobody told us of them, they only look like secrets.
FOREIGN = [
    "postgresql://somebody:f0reign-pass@db:5432/x", "Authorization: Bearer eyJhbGciOi.foreign.token1",
    '{"api_key": "k-foreign-9999"}', "AWS_SECRET_ACCESS_KEY=wJalrForeignKEY", "password: 'p-foreign-1234'",
    "redis://:f0reign-redis@10.0.0.1:6379/0",
]  # fmt: skip
FOREIGN_VALUES = [
    "f0reign-pass", "eyJhbGciOi.foreign.token1", "k-foreign-9999", "wJalrForeignKEY", "p-foreign-1234", "f0reign-redis",
]  # fmt: skip


@pytest.fixture
def settings(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    for name, value in PLANTED.items():
        (home / "secrets" / name).write_text(value)
    monkeypatch.setenv("ULTRATHINK_GATEWAY_ADMIN_TOKEN", "env-adm1n-token")
    made = StackSettings(
        home=home, ports=ServerPorts.automatic(), model_repository=tmp_path / "models", profile="servers",
        kafka_extra={"listener.password": "extra-pass-123"},
    )  # fmt: skip
    made.save()
    (home / "logs").mkdir()
    lines = [f"line with {value} in it" for value in [*VALUES, "env-adm1n-token", *FOREIGN]]
    (home / "logs" / "gateway.log").write_text("\n".join(["the gateway is ready", *lines]) + "\n")
    (home / "logs" / "big.log").write_text("x" * 2_000_000 + "\nthe end\n")
    return made


def test_a_planted_secret_is_nowhere_in_it_and_the_rest_is(settings, tmp_path):
    path = tmp_path / "bundle.zip"
    names = write_bundle(settings, path, lambda _: None)
    assert {
        "status.json",
        "settings.json",
        "doctor.json",
        "versions.json",
        "logs/gateway.log",
        "missing.txt",
    } <= set(names)
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "".join(texts.values())
    found = [v for v in (*VALUES, *FOREIGN_VALUES, "env-adm1n-token", "extra-pass-123") if v in everything]
    assert found == []
    assert "the gateway is ready" in texts["logs/gateway.log"]
    assert "[redis]" in texts["logs/gateway.log"]
    assert texts["logs/big.log"].endswith("the end\n")
    assert len(texts["logs/big.log"]) < 600_000
    # Who is not there is named, with why.
    assert "metrics.json" in texts["missing.txt"]
    assert json.loads(texts["versions.json"])["ultrathink-pilot"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".bundle")] == []


def test_what_is_no_secret_stays():
    scrub = Scrubber({"s3cret-value": "[x]"}).scrub
    for text in (
        "kafka-1 at 127.0.0.1:9092",
        "tokens 5 of 7",
        "http://127.0.0.1:8010/v1/health",
        "password",
        "ratio: 0.5",
    ):
        assert scrub(text) == text
    assert scrub("a s3cret-value b") == "a [x] b"


def test_a_secret_that_is_a_part_of_another_hides_nothing_of_it():
    assert Scrubber({"abcdef": "[short]", "abcdefgh": "[long]"}).scrub("abcdefgh abcdef") == "[long] [short]"


@pytest.mark.parametrize(
    "line",
    [
        r'{"sasl.jaas.config": "Plain required password=\"planted-1234\";"}',
        r'{"msg": "{\"password\": \"planted-1234\"}"}',
        "X-Api-Key: planted-1234", "Authorization: Token planted-1234", "run --password planted-1234",
        "password%3Dplanted-1234", "AccountKey=planted-1234", "password=ab;planted-1234", '"password": "p,planted-1234"',
        "password='two planted-1234'", "redis://:p@planted-1234@host:6379/0",
        "half of a key\nMC4CAQAplanted-1234\n-----END PRIVATE KEY-----\n",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_goes_whatever_stands_around_it(line):
    assert "planted-1234" not in Scrubber({}).scrub(line)


def test_a_known_secret_goes_however_it_is_written():
    scrub = Scrubber({'se"cret/va lue+1': "[x]"}).scrub
    for written in ('se"cret/va lue+1', 'se\\"cret/va lue+1', "se%22cret%2Fva%20lue%2B1"):
        assert scrub(f"a {written} b") == "a [x] b"


def test_one_part_that_breaks_takes_no_other_with_it(settings, tmp_path, monkeypatch):
    def broken(_):
        raise KeyError("data")

    monkeypatch.setattr("stack.workflows.support_bundle.metrics", broken)
    odd = settings.absolute_home / "logs" / os.fsdecode(b"odd\xff.log")
    odd.write_text("odd\n")
    names = write_bundle(settings, tmp_path / "b.zip", lambda _: None)
    assert "logs/odd\\udcff.log" in names
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert "metrics.json: KeyError" in archive.read("missing.txt").decode()


def test_names_and_scopes_of_tokens_are_no_secrets(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "data-tokens.json").write_text(
        '{"trader": {"scopes": ["market"], "sha256": "%s"}}' % ("a1" * 32)
    )
    scrub = Scrubber.of(tmp_path, {}, {}).scrub
    assert scrub("trader reads market.ticks") == "trader reads market.ticks"
    assert "a1a1" not in scrub("a1" * 32)
