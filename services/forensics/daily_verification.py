"""Whether the trail still is what was signed: once a day all of it is looked at, by a process beside forensics.

What was signed long ago forensics itself does not read again: who changes it is found here.
"""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import structlog
from msgspec import Struct

from services.forensics.findings import Finding
from services.forensics.ports import Alarm, Observer
from services.forensics.settings import ForensicsSettings
from services.forensics.verification import Verification
from trading.encoding import Count, Int64, Records, encode
from trading.errors import BadRecord, ServiceUnavailable
from trading.files import replace_file

log = structlog.get_logger()
DAY_S, HOUR_S = 86_400, 3600.0
#: After a start, one that was missed waits so long: a desk that starts has other work.
SETTLED_S = 600.0
#: Between two looks at the clock.
LOOK_S = 60.0
#: Where the last one is told of, in the folder of the checkpoints.
VERIFIED = "verified.json"
#: Findings that become alarms of their own.
MOST_ALARMS = 20
#: Of its output: more than this are findings without end.
MOST_BYTES = 1 << 28
#: It yields to everybody.
NICE = 19
ENDS_S = 5.0
#: Of what it says when it fails.
SAID = 300


class Verified(Struct, frozen=True):
    """The last verification that came to its end.

    Attributes:
        began_ns, ended_ns: wall time.
        records: that were looked at.
        findings: what was not as it was signed.
    """

    began_ns: Int64
    ended_ns: Int64
    records: Count
    findings: Count


_verified = Records(Verified)
_verifications = Records(Verification)


def last_verified(folder: Path) -> Verified | None:
    """The last one, as it was written; None where nobody knows."""
    try:
        return _verified.read((folder / VERIFIED).read_bytes())
    except (OSError, BadRecord):
        return None


def due_s(now_s: float, at_s: int, started_s: float, last: Verified | None) -> float:
    """When the next one begins, in seconds since 1970.

    Args:
        now_s: wall time.
        at_s: the second of the day, in UTC.
        started_s: wall time when forensics was started.
        last: the last one; None where there was none.

    Returns:
        The next time of the day; where the last such time was missed, or something had been found before the
        start, some minutes after the start.
    """
    before_s = now_s - (now_s - at_s) % DAY_S
    if last is None or last.began_ns < before_s * 1e9 or (last.findings and last.began_ns < started_s * 1e9):
        return started_s + SETTLED_S
    return before_s + DAY_S


def as_alarms(findings: Sequence[Finding]) -> list[Alarm]:
    """What was found, the first of it one by one."""
    alarms = [
        Alarm(
            "not_as_signed", f"{one.kind}: {one.place}: {one.detail}", one.log,
            one.first_offset if one.first_offset >= 0 else None,
        )
        for one in findings[:MOST_ALARMS]
    ]  # fmt: skip
    if rest := len(findings) - len(alarms):
        said = f"so are {rest:,} more places: `ultrathink forensics verify` names them"
        alarms.append(Alarm("not_as_signed", said))
    return alarms


class DailyVerification:
    """Looks once a day, in a thread; what it finds becomes alarms. One that fails is tried again in an hour."""

    def __init__(
        self,
        look: Callable[[threading.Event], Verification],
        folder: Path,
        observer: Observer,
        at_s: int,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            look: verifies all; told what ends it early. May raise ServiceUnavailable.
            folder: of the checkpoints.
            observer: told of each that came to its end, and of the last one of an earlier life.
            at_s: second of the day, in UTC.
            now_s: wall time.
        """
        self._look, self._folder, self._observer, self._at_s, self._now_s = look, folder, observer, at_s, now_s
        self._alarms: queue.SimpleQueue[Alarm] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._started_s, self._not_before_s = now_s(), 0.0
        self._last = last_verified(folder)

    def alarms(self) -> list[Alarm]:
        """What was found since it was asked last."""
        found = []
        while not self._alarms.empty():
            found.append(self._alarms.get())
        return found

    def start(self) -> Callable[[], None]:
        """In a thread; returns what ends it, and what it has begun."""
        if self._last is not None:
            self._observer.verified(self._last.ended_ns, self._last.findings)
        thread = threading.Thread(target=self._run, name="verification", daemon=True)
        thread.start()

        def close() -> None:
            self._closing.set()
            thread.join(2 * ENDS_S)

        return close

    def _run(self) -> None:
        while not self._closing.wait(min(LOOK_S, max(0.0, self._due_s() - self._now_s()))):
            if self._now_s() >= self._due_s():
                self.once()

    def _due_s(self) -> float:
        return max(due_s(self._now_s(), self._at_s, self._started_s, self._last), self._not_before_s)

    def once(self) -> None:
        """Look now, and tell."""
        began_s = self._now_s()
        try:
            found = self._look(self._closing)
            records = sum(one.records for one in found.logs)
            done = Verified(int(began_s * 1e9), int(self._now_s() * 1e9), records, len(found.findings))
            # Alarms first: who is killed here looks again.
            for alarm in as_alarms(found.findings):
                self._alarms.put(alarm)
            self._last = done
            self._observer.verified(done.ended_ns, done.findings)
            log.info("verified", records=records, findings=done.findings, seconds=round(self._now_s() - began_s, 1))
            replace_file(self._folder / VERIFIED, encode(done))
        except (ServiceUnavailable, OSError) as error:
            self._not_before_s = self._now_s() + HOUR_S
            if not self._closing.is_set():
                log.warning("not verified: it is tried again in an hour", reason=str(error)[:SAID])


def of(settings: ForensicsSettings, command: Sequence[str], observer: Observer) -> DailyVerification | None:
    """As the settings say; None where nobody verifies."""
    if not command or settings.verify_at == "never":
        return None
    hours, minutes = settings.verify_at.split(":")
    # As who records: of roles that read there may be none here.
    reader = {"ULTRATHINK_FORENSICS_READER_URL": settings.postgres_url.get_secret_value()}
    at_s = int(hours) * 3600 + int(minutes) * 60
    return DailyVerification(by_process(command, reader), settings.checkpoints, observer, at_s)


def by_process(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[threading.Event], Verification]:
    """Verifies by a command that prints a Verification as JSON, with exit code 0, or 1 where something was found.

    Reading all of a trail takes processor time that recording must not wait for. The command stays in the process
    group of its caller: who ends that, ends it.
    """

    def look(closing: threading.Event) -> Verification:
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complained:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=told, stderr=complained,
                env={**os.environ, **environment},
            )  # fmt: skip
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
                while process.poll() is None and not closing.wait(0.2):
                    pass
            finally:
                end(process)
            code = process.returncode
            if code in {0, 1}:
                try:
                    return _verifications.read(content_of(told))
                except BadRecord:
                    pass
            said = content_of(complained).decode(errors="replace").strip()[-SAID:]
            raise ServiceUnavailable(f"a verification ended with exit code {code}: {said or 'it says nothing'}")

    return look


def content_of(file: IO[Any]) -> bytes:
    """What a process wrote, as far as there is a bound."""
    file.seek(0)
    content: bytes = file.read(MOST_BYTES)
    return content


def end(process: subprocess.Popen[bytes]) -> None:
    """Whatever it does; nothing of it counts."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
