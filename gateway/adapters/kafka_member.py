"""What a consumer group thinks of a member of ours that its client has given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from logging import Logger

from connectors.kafka.cluster import static_member
from connectors.logs import kafka_logger
from trading.errors import ServiceUnavailable


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
        """Whether the present member can do nothing any more, and another one of ours can.

        `member_id` asks what the group calls the present one.

        Raises ServiceUnavailable where no member of ours can go on, as another gateway bears the name: to join
        anew would fence that. Also where the group does not tell.
        """
        if not self._fatal:
            return False
        with self._asking:
            if not self._fatal:
                return False  # another member of ours has begun meanwhile
            if "fenced" not in self._fatal:
                raise ServiceUnavailable(f"{self._topic} cannot be read any more: {self._fatal}")
            if self._is_another is None:
                self.given(member_id())
                holder = static_member(self._bootstrap, self._group, self._instance)
                self._is_another = holder is not None and holder not in self._ids
            if self._is_another:
                raise ServiceUnavailable(
                    f"another gateway runs as {self._instance!r} in the group {self._group!r}: give each a name of "
                    "its own, --instance"
                )
            return True

    def _note(self, member: int, said: str) -> None:
        # One that we have replaced ourselves is fenced, as it must be.
        if member == self._members:
            self._fatal = said
