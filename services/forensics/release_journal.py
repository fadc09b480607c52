"""The exporters' journal of releases, line by line into a topic, also where Kafka was away at the release."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from services.forensics.ports import Alarm, Lines
from trading.errors import ServiceUnavailable


class JournalShipper:
    """Publishes each whole line once, in order.

    Attributes:
        refuses: why nothing more is published; "" where it is.
    """

    def __init__(self, path: Path, topic: Lines) -> None:
        """Nothing is read yet."""
        self._path, self._topic = path, topic
        self._published: list[bytes] | None = None
        self._size = -1
        self.refuses = ""

    def ship(self) -> list[Alarm]:
        """Publish what is new; alarms where the journal is not what it was.

        Raises:
            ServiceUnavailable: Kafka does not answer, or the journal cannot be read.
        """
        if self.refuses:
            return []
        if self._published is None:
            self._published = without_repeats(self._topic.lines())
        lines = self._changed_lines()
        if lines is None:
            return []
        published = self._published
        for number, (was, now) in enumerate(zip(published, lines, strict=False), 1):
            if was != now:
                return self._refuse(f"line {number} of {self._path} is not what was published", now)
        if len(lines) < len(published):
            return self._refuse(f"{self._path} has {len(lines)} lines, and {len(published)} were published", None)
        for line in lines[len(published) :]:
            try:
                self._topic.append(line)
            except ServiceUnavailable:
                # It may have arrived all the same: next time the topic itself says.
                self._published, self._size = None, -1
                raise
            published.append(line)
        return []

    def _changed_lines(self) -> list[bytes] | None:
        """Every whole line; None where the file is as it was."""
        try:
            size = self._path.stat().st_size
            if size == self._size:
                return None
            content = self._path.read_bytes()
        except FileNotFoundError:
            # Nothing was released yet.
            return None if not self._published else []
        except OSError as error:
            raise ServiceUnavailable(f"the journal {self._path} cannot be read: {error.strerror}") from error
        self._size = len(content)
        return content.split(b"\n")[:-1]

    def _refuse(self, why: str, line: bytes | None) -> list[Alarm]:
        self.refuses = why
        return [
            Alarm(
                "journal_changed", f"{why}: nothing more of it is published until somebody has looked", record=line
            )
        ]


def without_repeats(lines: Iterable[bytes]) -> list[bytes]:
    """Lines in order; one that was sent again, because nobody had heard that it arrived, counts once."""
    found: list[bytes] = []
    for line in lines:
        if not found or found[-1] != line:
            found.append(line)
    return found
