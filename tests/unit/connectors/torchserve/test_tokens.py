"""Tokens, and what TorchServe's refusals mean."""

from __future__ import annotations

import json

import grpc
import pytest

from connectors.torchserve.errors import Meaning, meaning
from connectors.torchserve.tokens import fixed, of_file, of_key_file
from trading.errors import ConfigurationError, ServiceUnavailable


class Failed(grpc.RpcError):
    def __init__(self, code, said):
        self._code, self._said = code, said

    def code(self):
        return self._code

    def details(self):
        return self._said


@pytest.mark.parametrize(
    ("code", "said", "wanted"),
    [
        # As 0.12.0 says them.
        (
            "PERMISSION_DENIED",
            "Token Authorization failed. Token either incorrect, expired, or not provided",
            "DENIED",
        ),
        ("RESOURCE_EXHAUSTED", "Worker died.\norg.pytorch.serve.http.InternalServerException", "DIED"),
        ("INTERNAL", "Model not found: nosuch\norg.pytorch.serve.archive.model.ModelNotFoundException", "ABSENT"),
        ("INTERNAL", "Model version: 9 does not exist for model: twice", "ABSENT"),
        ("INTERNAL", "Prediction failed", "REFUSED"),
        (
            "INTERNAL",
            'Model "m" Version 1 has no worker to serve inference request. Please use scale workers',
            "BUSY",
        ),
        ("UNAVAILABLE", "failed to connect to all addresses", "DOWN"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "TIMED_OUT"),
        ("UNKNOWN", None, "REFUSED"),
    ],
)
def test_a_failed_call_means_what_the_servers_words_say(code, said, wanted):
    assert meaning(Failed(grpc.StatusCode[code], said)) is Meaning[wanted]


def test_a_token_is_read_as_it_is_now(tmp_path):
    path = tmp_path / "token"
    token = of_file(path)
    with pytest.raises(ServiceUnavailable, match="cannot be read"):
        token()
    for text in ("one", "two\n"):
        path.write_text(text)
        assert token() == text.strip()


def test_of_the_servers_own_file_one_token_is_read(tmp_path):
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps({"inference": {"key": "i"}, "management": {"key": "m"}, "API": {"key": "a"}}))
    assert (of_key_file(path, "inference")(), of_key_file(path, "API")()) == ("i", "a")
    for torn in ("", "{", "[]", '{"inference": {}}', '{"inference": 1}'):
        path.write_text(torn)
        with pytest.raises(ServiceUnavailable, match="cannot be read"):
            of_key_file(path, "inference")()


@pytest.mark.parametrize("text", ["a\nb", "ä", "a\0"])
def test_what_no_header_can_carry_is_no_token(text):
    with pytest.raises(ConfigurationError, match="no header can carry"):
        fixed(text)
