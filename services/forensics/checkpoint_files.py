"""Where checkpoints lie outside the database: a file a day, a line each, synced before it counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import structlog
from msgspec import Struct

from trading.encoding import Int64, Records, encode
from trading.errors import BadRecord, ConfigurationError, ServiceUnavailable

log = structlog.get_logger()
PREFIX, SUFFIX = "checkpoints-", ".jsonl"
#: The public half of the key that signs them, as it is handed out.
PUBLIC_KEY = "signing-key.pub"
BLOCK = 1 << 16
#: What kept checkpoints from being signed, and somebody has looked at since. Here, and not in the database: whoever
#: owns that must not accept what he did.
ACCEPTED = "accepted.jsonl"


class Acceptance(Struct, frozen=True):
    """Somebody has looked at an alarm: its sentence, who, why, and when."""

    alarm: str
    by: str
    reason: str
    at_ns: Int64


_acceptances = Records(Acceptance)


class CheckpointFiles:
    """A folder of `checkpoints-YYYY-MM-DD.jsonl`, in UTC."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first line."""
        self.folder = folder

    def files(self) -> list[Path]:
        """The oldest first."""
        try:
            return sorted(self.folder.glob(f"{PREFIX}*{SUFFIX}"))
        except OSError as error:
            raise ConfigurationError(f"{self.folder} cannot be read: {error.strerror}") from error

    def files_until(self, day: date) -> list[Path]:
        """Those of this day and before, the oldest first."""
        last = f"{PREFIX}{day.isoformat()}{SUFFIX}"
        return [path for path in self.files() if path.name <= last]

    def lines_since(self, at_ns: int) -> Iterator[bytes]:
        """Whole lines from the beginning of the day of a wall time on. Raises ConfigurationError."""
        first = f"{PREFIX}{datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).date().isoformat()}{SUFFIX}"
        for path in self.files():
            if path.name >= first:
                yield from self.lines_of(path)

    def days(self) -> list[date]:
        """Of which there are checkpoints, in order."""
        names = [path.name.removeprefix(PREFIX).removesuffix(SUFFIX) for path in self.files()]
        found = []
        for name in names:
            # What else lies there under such a name is no day's.
            with suppress(ValueError):
                found.append(date.fromisoformat(name))
        return found

    def append(self, line: bytes, signed_at_ns: int) -> None:
        """Write and sync a line; the torn one of a writer that was killed is cut off first.

        Raises:
            ServiceUnavailable: it is not written, and may be tried again.
        """
        day = datetime.fromtimestamp(signed_at_ns // 1_000_000_000, UTC).date()
        # A clock that steps back must not write before what is there.
        last = self.files()[-1:]
        path = max([self.folder / f"{PREFIX}{day.isoformat()}{SUFFIX}", *last])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                whole = whole_bytes(file.fileno())
                if whole != os.fstat(file.fileno()).st_size:
                    file.truncate(whole)
                try:
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    # Not there, or not for good: the next one of this number is another line.
                    os.ftruncate(file.fileno(), whole)
                    raise
        except OSError as error:
            raise ServiceUnavailable(f"a checkpoint cannot be written to {path}: {error.strerror}") from error

    def lines(self) -> Iterator[bytes]:
        """Every whole line, the oldest first. Raises ConfigurationError where one cannot be read."""
        for path in self.files():
            yield from self.lines_of(path)

    def lines_of(self, path: Path) -> Iterator[bytes]:
        """Every whole line of one file. Raises ConfigurationError."""
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error

    def acceptances(self) -> list[Acceptance]:
        """What people have looked at and accepted; a line that is none counts not."""
        path, found = self.folder / ACCEPTED, []
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            # What is not known is not accepted, and records do not wait for it.
            log.warning("what was accepted cannot be read", path=str(path), reason=error.strerror)
            return []
        for line in lines:
            with suppress(BadRecord):
                found.append(_acceptances.read(line))
        return found

    def accept(self, acceptance: Acceptance) -> None:
        """Add one. Raises ConfigurationError where it cannot be written."""
        path = self.folder / ACCEPTED
        try:
            with path.open("ab+") as file:
                # Of one that was torn nothing counts, and nothing of it must swallow this one.
                file.truncate(whole_bytes(file.fileno()))
                file.write(encode(acceptance) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror}: accept it where forensics runs, as its user"
            ) from error

    def last(self) -> bytes | None:
        """The newest whole line; None where there is none."""
        for path in reversed(self.files()):
            line = last_line(path)
            if line is not None:
                return line
        return None


def whole_bytes(descriptor: int) -> int:
    """How many bytes of a file its whole lines are, read from the end."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - BLOCK)
        place = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0


def last_line(path: Path) -> bytes | None:
    """The last whole line of a file, read from its end. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            end = whole_bytes(file.fileno())
            if end == 0:
                return None
            content, begin = b"", end - 1
            while begin > 0 and b"\n" not in content:
                step = min(BLOCK, begin)
                begin -= step
                content = os.pread(file.fileno(), step, begin) + content
            return content[: end - 1 - begin].rpartition(b"\n")[2]
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
