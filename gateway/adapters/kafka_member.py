"""What a consumer group thinks of a member of ours that its client has given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from logging import Logger

from connectors.kafka.cluster import static_member
from connectors.logs import kafka_logger
from trading.errors import ServiceUnavailable

#: Within this the polling thread, if it polls, has found out who holds our place; between two looks.
FOUND_S, LOOK_S = 1.0, 0.02


class Membership:
    """A name in a group, and the members that have borne it one after another."""

    def __init__(self, bootstrap: str, group: str, instance: str, topic: str) -> None:
        """Nobody yet.

        Args:
            bootstrap: broker addresses.
            group: consumer group.
            instance: the lasting name within it.
            topic: that is read; for messages.
        """
        self._bootstrap, self._group, self._instance, self._topic = bootstrap, group, instance, topic
        #: Ids that the group has given our members: whoever holds our name with another one is another gateway.
        self._ids: set[str] = set()
        self._members = 0
        #: What the present one cannot go on after: librdkafka only logs it, and polls bring nothing any more.
        self._fatal = ""
        #: Whether another's member fenced it: asked once for each, by whoever meets it first.
        self._is_another: bool | None = None
        self._asking = threading.Lock()

    def begin(self) -> Logger:
        """Another member of ours begins; returns what its client logs to."""
        with self._asking:
            self._members += 1
            self._fatal, self._is_another = "", None
            return kafka_logger(fatal=partial(self._note, self._members))

    def given(self, member_id: str | None) -> None:
        """The group knows the present member by this id."""
        if member_id:
            self._ids.add(member_id)

    def ended(self, member_id: Callable[[], str | None]) -> bool:
        """Whether the present member can do nothing any more, and another one of ours can. For the polling thread.

        `member_id` asks what the group calls the present one: of another thread its client takes no question while
        the polling one is told of a rebalance, and that may wait for the other.

        Raises ServiceUnavailable where no member of ours can go on, as another gateway bears the name: to join
        anew would fence that. Also where the group does not tell.
        """
        if not self._fatal:
            return False
        with self._asking:
            if not self._fatal:
                return False  # another member of ours has begun meanwhile
            self._check_fenced()
            if self._is_another is None:
                self.given(member_id())
                holder = static_member(self._bootstrap, self._group, self._instance)
                self._is_another = holder is not None and holder not in self._ids
            self._check_ours()
            return True

    def check(self) -> None:
        """What the polling thread has found, which is waited for a moment. For other threads.

        Raises ServiceUnavailable where no member of ours can go on.
        """
        if not self._fatal:
            return
        self._check_fenced()
        deadline = time.monotonic() + FOUND_S
        while self._fatal and self._is_another is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._check_ours()

    def _check_fenced(self) -> None:
        if "fenced" not in self._fatal:
            raise ServiceUnavailable(f"{self._topic} cannot be read any more: {self._fatal}")

    def _check_ours(self) -> None:
        if self._is_another:
            raise ServiceUnavailable(
                f"another gateway runs as {self._instance!r} in the group {self._group!r}: give each a name of "
                "its own, --instance"
            )

    def _note(self, member: int, said: str) -> None:
        # One that we have replaced ourselves is fenced, as it must be.
        if member == self._members:
            self._fatal = said
