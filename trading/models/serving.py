"""What a gateway says of itself when it begins to ask a version: what its decisions depend on beside the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from msgspec import Struct

from trading.encoding import Int64, Records


class ServingFacts(Struct, frozen=True):
    """What a version's answers depend on beside the rows: server, device, batches.

    Where all of it is the same, answers are expected to be the same to the last bit.

    Attributes:
        server: name and version, as "triton 2.60.0".
        devices: model or step -> "cpu" or "gpu", as it is loaded.
        rows_multiple: batches are padded to a multiple of so many rows: with it no answer depends on the company.
        probe_sha256: of the answers to the rows that every start is tried with; hexadecimal.
    """

    server: str
    devices: Mapping[str, str]
    rows_multiple: int
    probe_sha256: str

    def differences(self, other: ServingFacts) -> list[str]:
        """What is not the same, in words: of this one, then of the other."""
        told = []
        for what, mine, others in (
            ("server", self.server, other.server),
            ("device", said(self.devices), said(other.devices)),
            ("rows of a batch", str(self.rows_multiple), str(other.rows_multiple)),
            ("answers to the probe", self.probe_sha256[:12], other.probe_sha256[:12]),
        ):
            if mine != others:
                told.append(f"{what}: {mine} and {others}")
        return told


class GatewayStart(Struct, frozen=True):
    """A gateway begins to decide, or begins to ask another version.

    Attributes:
        event: "start", or "version" where a gateway that runs follows a release.
        instance, group: of the gateway.
        at_ns: wall time.
        model_name, model_version: that it asks from here on.
        serving: what the answers depend on.
        account, strategy, rebalance_band, execution: settings that an order depends on.
        ticks_topic, ticks_topic_id, decisions_topic, decisions_topic_id: which logs it reads and writes.
        partitions: of them.
        build: package -> version, of what decides.
    """

    event: str
    instance: str
    group: str
    at_ns: Int64
    model_name: str
    model_version: str
    serving: ServingFacts
    account: str
    strategy: str
    rebalance_band: float
    execution: str
    ticks_topic: str
    ticks_topic_id: str
    decisions_topic: str
    decisions_topic_id: str
    partitions: int
    build: Mapping[str, str]


_starts = Records(GatewayStart)


def read_start(payload: bytes | None) -> GatewayStart:
    """The start that a record holds. Raises BadRecord."""
    return _starts.read(payload)


def digest_of(answers: Iterable[bytes]) -> str:
    """Of the answers to the probe, an output each."""
    return sha256(b"".join(answers)).hexdigest()


def said(devices: Mapping[str, str]) -> str:
    """One word where all are the same."""
    kinds = set(devices.values())
    if len(kinds) == 1:
        return kinds.pop()
    return ", ".join(f"{name} {device}" for name, device in sorted(devices.items()))
