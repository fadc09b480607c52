"""The trail of a desk looked at as a whole: waited for, verified, every decision made again, one of them proven."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.checkpoints import read
from services.forensics.proving import prove_record, to_file
from services.forensics.rebindings import rebindings_of
from services.forensics.replay_log import spans_of
from services.forensics.replaying import Span, replay_span
from services.forensics.settings import ForensicsSettings
from services.forensics.store.reading import opened
from services.forensics.verification import verify
from stack.workflows.lived_ticks import lived_ticks
from trading.errors import ConfigurationError, ServiceUnavailable
from trading.files import replace_file
from trading.keys import public_keys, public_path

#: So long a trail may lag behind what was published.
CAUGHT_UP_S = 60.0
PROOF, KEY = "proof.json", "forensics-signing-key.pub"


class TrailReport(Struct, frozen=True):
    """What a trail came to.

    Attributes:
        records: on record, of all kinds.
        checkpoints: that signed them.
        findings: what is not as it was signed; 0 where all is.
        replayed: decisions that were made again.
        different: those that are not the same, byte for byte.
        proof, key: files of one decision's proof, and of the public key to check it with.
        hashes: in the proof.
        seconds: that all of it took.
    """

    records: int
    checkpoints: int
    findings: int
    replayed: int
    different: int
    proof: str
    key: str
    hashes: int
    seconds: float


def examine(
    settings: ForensicsSettings, decision_id: str, decisions: int, folder: Path, show: Callable[[str], None]
) -> TrailReport:
    """Examine a trail, and write the proof of a decision.

    Args:
        settings: of the trail.
        decision_id: the one that is proven.
        decisions: how many must be on record and signed before it begins.
        folder: of the proof and the public key.
        show: told what is being done.

    Raises:
        ServiceUnavailable: the trail does not catch up, or a server does not answer.
        ConfigurationError: the trail cannot be read.
    """
    began = time.monotonic()
    keys = public_keys([public_path(settings.signing_key)])
    show(f"the trail catches up with {decisions:,} decisions")
    wait_for(settings, decisions)
    with opened(settings.reader_url.get_secret_value()) as reader:
        show("every record is verified")
        verified = verify(reader, CheckpointFiles(settings.checkpoints).lines(), keys, keep_days=settings.keep_days)
        ticks, replayed, different = lived_ticks(settings, rebindings_of(reader, settings)), 0, 0
        for partition in spans_of(reader, settings.roles()):
            done = replay_span(
                reader, ticks, settings, Span(partition),
                lambda n, of: show(f"every decision is made again: {n:,} of {of:,} ticks"),
            )  # fmt: skip
            replayed, different = replayed + done.decisions, different + len(done.different)
        found = reader.find("decisions", "decision_id", decision_id)
        if not found:
            raise ConfigurationError(f"{decision_id} is not on record")
        proof = prove_record(reader, found[0], keys)
        records = reader.count()
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / PROOF, to_file(proof))
    shutil.copyfile(public_path(settings.signing_key), folder / KEY)
    return TrailReport(
        records, verified.checkpoints, len(verified.findings), replayed, different, PROOF, KEY, len(proof.path),
        round(time.monotonic() - began, 1),
    )  # fmt: skip


def wait_for(settings: ForensicsSettings, decisions: int) -> None:
    """Until so many decisions are on record and signed. Raises ServiceUnavailable where they are not in time."""
    keys = public_keys([public_path(settings.signing_key)])
    deadline = time.monotonic() + CAUGHT_UP_S
    while True:
        with opened(settings.reader_url.get_secret_value()) as reader:
            line = reader.last_checkpoint()
        signed = 0
        if line is not None:
            signed = sum(head.size for head in read(line, keys).trees if head.topic == settings.decisions_topic)
        if signed >= decisions:
            return
        if time.monotonic() > deadline:
            raise ServiceUnavailable(
                f"{signed:,} of {decisions:,} decisions are signed after {CAUGHT_UP_S:.0f} s: see forensics' log"
            )
        time.sleep(0.2)
