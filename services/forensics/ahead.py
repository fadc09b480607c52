"""Things taken one by one by somebody who must see what follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Takes things one by one, and sees two ahead."""

    def __init__(self, things: Iterator[T]) -> None:
        self._things = things
        self._next: list[T] = []

    def take(self) -> T | None:
        """The next; None at the end."""
        self.see(0)
        return self._next.pop(0) if self._next else None

    def see(self, distance: int) -> T | None:
        """The one so far ahead; None beyond the end."""
        while len(self._next) <= distance:
            following = next(self._things, None)
            if following is None:
                return None
            self._next.append(following)
        return self._next[distance]

    def rest(self) -> Iterator[T]:
        """All that were not taken."""
        while (one := self.take()) is not None:
            yield one
