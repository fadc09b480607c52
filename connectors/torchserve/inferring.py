"""Inference over TorchServe's gRPC."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc

from connectors.torchserve.errors import Meaning, RpcError, meaning
from connectors.torchserve.tokens import Token
from connectors.torchserve.wire import PREDICTIONS, PredictionResponse, PredictionsRequest

#: gRPC backs off for up to two minutes by default; a restarted server must be found at once. But Java loads its
#: classes with the first connection, and what is given up before that is never there.
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
#: Between two tries: whoever rotates tokens writes the new one at once, and another worker may be free; twice as
#: long each time. Who has more time than this does not try for longer.
SOONEST_S, LATEST_S, PATIENCE_S = 0.002, 0.25, 15.0
#: What a caller asks again within his time: a token that has just been rotated, a worker that has just died.
PASSING = {Meaning.DENIED, Meaning.DIED, Meaning.BUSY}
#: A call that so many workers die of kills them, and is not asked of the next.
MOST_DEATHS = 2


class TorchServeInfer:
    """Asks one TorchServe; may be used by several threads."""

    def __init__(self, address: str, token: Token) -> None:
        """Nothing is connected yet.

        Args:
            address: host:port of its gRPC for inference.
            token: for inference; read again when the server refuses it.
        """
        self.address, self._token = address, token
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._call = self._channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        self._metadata: tuple[tuple[str, str], ...] = ()

    def __call__(self, model: str, version: str, asked: Mapping[str, bytes], timeout_s: float) -> bytes:
        """The answer's bytes; of the default version where none is named.

        A token that was rotated is read again, and a worker that died is asked again, another or its successor: an
        inference changes nothing, and may be repeated for as long as there is time.

        Raises:
            RpcError: as the server answered last; ServiceUnavailable: there is no token.
        """
        request = PredictionsRequest(model_name=model, model_version=version, input=asked)
        ends_s = time.monotonic() + timeout_s
        patient_until_s = min(ends_s, time.monotonic() + PATIENCE_S)
        passing: Any = None
        pause_s, deaths = SOONEST_S, 0
        if not self._metadata:
            self.take_token()
        while True:
            sent = self._metadata
            try:
                found: Any = self._call(request, timeout=max(0.001, ends_s - time.monotonic()), metadata=sent)
            except RpcError as error:
                kind = meaning(error)
                if kind is Meaning.TIMED_OUT and passing is not None:
                    # What there was time for has been told before.
                    raise passing from error
                deaths += kind is Meaning.DIED
                if kind not in PASSING or deaths > MOST_DEATHS or time.monotonic() + pause_s >= patient_until_s:
                    raise
                passing = error
            else:
                return bytes(found.prediction)
            if kind is Meaning.DENIED and self._metadata == sent:
                self.take_token()
            if kind is not Meaning.DENIED or self._metadata == sent:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LATEST_S)

    def begin(self, model: str, version: str, asked: Mapping[str, bytes], timeout_s: float) -> Any:
        """Begin a call, and do not wait: gRPC's own future. Nothing is tried again. Raises ServiceUnavailable."""
        if not self._metadata:
            self.take_token()
        request = PredictionsRequest(model_name=model, model_version=version, input=asked)
        return self._call.future(request, timeout=timeout_s, metadata=self._metadata)

    def take_token(self) -> None:
        """Read the token, again where it was refused. Raises ServiceUnavailable."""
        self._metadata = (("authorization", f"Bearer {self._token()}"),)

    def close(self) -> None:
        """Close the channel; calls that are begun are cancelled."""
        self._channel.close()
