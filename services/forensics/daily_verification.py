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

from services.forensics.checkpoint_files import CheckpointFiles
from services.forensics.findings import Finding
from services.forensics.ports import Alarm, Observer
from services.forensics.settings import ForensicsSettings
from services.forensics.verification import Verification
from trading.encoding import Count, Int64, Records, encode
from trading.errors import BadRecord, ServiceUnavailable
from trading.files import replace_file

log = structlog.get_logger()
DAY_S, HOUR_S = 86_400, 3600.0
#: After a start, one that was missed waits so long.
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
#: How a command of ours begins to say what keeps it from its work.
SENTENCE = "error: "
#: Its exit codes where it heard SIGHUP, SIGINT or SIGTERM.
ENDED = {129, 130, 143}
#: What is lost and does not come back can be accepted; what was changed cannot.
LOST = {"missing", "log"}


class Verified(Struct, frozen=True):
    """The last verification that came to its end.

    Attributes:
        began_ns, ended_ns: wall time; of none yet, 0 and when one was wanted first.
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


def is_due(now_s: float, at_s: int, last: Verified | None) -> bool:
    """Whether the newest time of the day has passed without one; a last one of a time to come is none.

    Args:
        now_s: wall time, in seconds since 1970.
        at_s: the second of the day, in UTC.
        last: the last one; None where there was none.
    """
    before_s = now_s - (now_s - at_s) % DAY_S
    return last is None or not before_s <= last.began_ns / 1e9 <= now_s


def sentence_of(finding: Finding) -> str:
    """As an alarm says it, and who accepts that."""
    return f"{finding.kind}: {finding.place}: {finding.detail}"


def as_alarms(findings: Sequence[Finding]) -> list[Alarm]:
    """What was found, the first of it one by one."""
    alarms = [
        Alarm(
            "not_as_signed", sentence_of(one), one.log,
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            look: verifies all; told what ends it early. May raise ServiceUnavailable.
            folder: of the checkpoints.
            observer: told of each that came to its end, and of the last one of an earlier life.
            at_s: second of the day, in UTC.
            now_s: wall time.
            clock: seconds that no clock's correction changes.
        """
        self._look, self._folder, self._observer, self._at_s = look, folder, observer, at_s
        self._now_s, self._clock = now_s, clock
        self._alarms: queue.SimpleQueue[Alarm] = queue.SimpleQueue()
        self._closing = threading.Event()
        # What is missed is made up for, but not at once: a desk that starts has other work.
        self._not_before_s = clock() + SETTLED_S
        last = last_verified(folder)
        if last is None:
            # For how long nobody has verified is known from here on, over every restart.
            last = Verified(0, self._now_ns(), 0, 0)
            self._keep(last)
        self._told = last
        #: What was found then may be mended.
        self._last = None if last.findings else last

    def alarms(self) -> list[Alarm]:
        """What was found since it was asked last."""
        found = []
        while not self._alarms.empty():
            found.append(self._alarms.get())
        return found

    def start(self) -> Callable[[], None]:
        """In a thread; returns what ends it, and what it has begun."""
        self._observer.verified(self._told.ended_ns, self._told.findings)
        thread = threading.Thread(target=self._run, name="verification", daemon=True)
        thread.start()

        def close() -> None:
            self._closing.set()
            thread.join(2 * ENDS_S)

        return close

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            if self._clock() >= self._not_before_s and is_due(self._now_s(), self._at_s, self._last):
                self.once()

    def once(self) -> None:
        """Look now, and tell."""
        began_ns, began_s = self._now_ns(), self._clock()
        try:
            found = self._look(self._closing)
        # Whatever it is: a thread that dies verifies nothing any more, and nobody would hear of it for two days.
        except Exception as error:
            self._not_before_s = self._clock() + HOUR_S
            if not self._closing.is_set():
                log.warning(
                    "not verified: it is tried again in an hour", reason=str(error)[:SAID],
                    exc_info=not isinstance(error, (ServiceUnavailable, OSError)),
                )  # fmt: skip
            return
        records = sum(one.records for one in found.logs)
        accepted = {one.alarm for one in CheckpointFiles(self._folder).acceptances()}
        findings = [one for one in found.findings if one.kind not in LOST or sentence_of(one) not in accepted]
        for alarm in as_alarms(findings):
            self._alarms.put(alarm)
        self._last = Verified(began_ns, self._now_ns(), records, len(findings))
        self._observer.verified(self._last.ended_ns, self._last.findings)
        took_s = round(self._clock() - began_s, 1)
        log.info("verified", records=records, findings=self._last.findings, seconds=took_s)
        self._keep(self._last)

    def _now_ns(self) -> int:
        return int(self._now_s() * 1e9)

    def _keep(self, verified: Verified) -> None:
        """For the next life; where it cannot be kept, that one verifies soon."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / VERIFIED, encode(verified))
        except OSError as error:
            log.warning("it is not kept when all was verified", folder=str(self._folder), reason=error.strerror)


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
        """Until it has ended, or `closing` ends it. Raises ServiceUnavailable and OSError."""
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as complained:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=told, stderr=complained,
                # What it says is read: in no colours.
                env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "", **environment},
            )  # fmt: skip
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
                while process.poll() is None and not closing.wait(0.2):
                    pass
            finally:
                end(process)
            if closing.is_set():
                raise ServiceUnavailable("it was ended before its end")
            return outcome(process.returncode, content_of(told), content_of(complained))

    return look


def outcome(code: int, told: bytes, complained: bytes) -> Verification:
    """What was found. Raises ServiceUnavailable where it says why it could not look, or was ended.

    What ends one in any other way is a finding too: a value that nobody can read is none that was signed.
    """
    if code in {0, 1}:
        try:
            return _verifications.read(told)
        except BadRecord:
            pass
    said = complained.decode(errors="replace").strip()
    ended = f"a verification ended with exit code {code}: {said[-SAID:] or 'it says nothing'}"
    if code < 0 or code in ENDED or any(line.startswith(SENTENCE) for line in said.splitlines()):
        raise ServiceUnavailable(ended)
    return Verification(0, [], [Finding("trail", "all of it", ended)])


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
