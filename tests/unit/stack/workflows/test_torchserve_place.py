"""Which TorchServe is meant, and who gets whose token."""

from __future__ import annotations

import pytest

from stack.cli.stack.command import with_and_without
from stack.processes.settings import gateway_settings
from stack.servers.settings import INFERENCE_TOKEN, ServerPorts, StackSettings
from stack.workflows.torchserve import INFERENCE, MANAGEMENT, place
from trading.errors import ConfigurationError


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A stack that was started, with its secrets."""
    one = StackSettings(home=tmp_path / "home", ports=ServerPorts.automatic(), beside=("torchserve",))
    one.save()
    for name in ("redis", "gateway-admin", INFERENCE_TOKEN, "torchserve-management"):
        path = one.absolute_home / "secrets" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"of {name}")
    monkeypatch.setenv("ULTRATHINK_HOME", str(one.home))
    return one


def test_the_stacks_own_is_meant_unless_another_is_named(kept):
    found = place()
    assert found.management == f"http://127.0.0.1:{kept.ports.torchserve_management}"
    assert found.grpc == f"127.0.0.1:{kept.ports.torchserve_grpc}"
    assert [token() for token in found.tokens] == ["of torchserve-management", f"of {INFERENCE_TOKEN}"]


def test_another_gets_the_tokens_that_are_given_for_it_and_never_the_stacks(kept, monkeypatch):
    with pytest.raises(ConfigurationError, match=f"{MANAGEMENT} and {INFERENCE} must hold"):
        place("http://other:8081")
    monkeypatch.setenv(MANAGEMENT, "m")
    with pytest.raises(ConfigurationError, match=f"{INFERENCE} must hold"):
        place("http://other:8081")
    monkeypatch.setenv(INFERENCE, "i")
    found = place("http://other:8081/, other:9070")
    assert (found.grpc, [token() for token in found.tokens]) == ("other:9070", ["m", "i"])
    assert place("http://other:8081").grpc == "other:7070"
    assert place("http://[::1]:8081").grpc == "[::1]:7070"


@pytest.mark.parametrize(
    "told",
    ["other:8081", "http://other", "https://other:8081", "http://:8081", "http://u:p@other:8081", "http://other:8081,x",
     "http://other:8081/path", "ftp://other:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anybody_is_asked(kept, monkeypatch, told):
    monkeypatch.setenv(MANAGEMENT, "m")
    monkeypatch.setenv(INFERENCE, "i")
    with pytest.raises(ConfigurationError, match="expected http://host:port"):
        place(told)


def test_a_gateway_that_asks_another_has_no_token_of_the_stacks(kept, monkeypatch):
    own = gateway_settings()
    assert own.torchserve_url == f"127.0.0.1:{kept.ports.torchserve_grpc}"
    assert own.torchserve_token_file.read_text() == f"of {INFERENCE_TOKEN}"
    monkeypatch.setenv("ULTRATHINK_GATEWAY_TORCHSERVE_URL", "other:7070")
    other = gateway_settings()
    assert other.torchserve_url == "other:7070"
    assert other.torchserve_token_file != own.torchserve_token_file


def test_a_server_beside_the_usual_is_begun_ended_or_left_as_it_is():
    assert with_and_without(["torchserve"], None) == ("torchserve",)
    assert with_and_without(None, ["torchserve"]) == ()
    assert with_and_without(None, None) is None
    for given in ((["x"], None), (None, ["x"]), (["torchserve"], ["torchserve"])):
        with pytest.raises(ConfigurationError):
            with_and_without(*given)
