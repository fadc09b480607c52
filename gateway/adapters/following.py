"""One version of a model is asked at a time, and a newer one is taken as it is released."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import structlog

from trading.arrays import Float32Array
from trading.errors import ContractMismatch, InvalidPrediction, ServiceUnavailable
from trading.models.serving import ServingFacts

log = structlog.get_logger()
FOLLOW_EVERY_S = 1.0
SHORTEST_FOLLOW_S = 0.1


class FollowingPredictor(ABC):
    """What predictors of one server share; `newest_version`, `check_version` and `serving_of` ask that server.

    Attributes:
        model_version: that is asked now.
        rows_multiple: what a batch is padded to a multiple of.
        serving: what the pinned version's answers depend on; known from `settle_rows` on.
    """

    #: What keeps a newer version from being followed, and is only told.
    failures: tuple[type[BaseException], ...] = (ContractMismatch, ServiceUnavailable, InvalidPrediction)

    def __init__(self, model_version: str) -> None:
        """Nothing is asked yet; "" follows the newest."""
        self.model_version = model_version
        self._follows_newest = not model_version
        self._closing, self._wake = threading.Event(), threading.Event()
        self.rows_multiple = 1
        self.serving: ServingFacts | None = None
        self._before_following: Callable[[str, ServingFacts], None] = lambda *_: None

    @abstractmethod
    def newest_version(self) -> str:
        """The version that counts now, as the server says."""

    @abstractmethod
    def check_version(self, version: str) -> None:
        """Raise ContractMismatch unless a version keeps the contract; ServiceUnavailable while it is loaded."""

    @abstractmethod
    def serving_of(self, version: str) -> ServingFacts:
        """What a version's answers depend on, by asking it."""

    def follow(self, before: Callable[[str, ServingFacts], None]) -> None:
        """From now on take newer versions as they are released, unless one was named.

        `before` is told of each, and must not take long: the version before may be gone already.
        """
        self._before_following = before
        if self._follows_newest:
            threading.Thread(target=self._follow_releases, name="follow", daemon=True).start()

    def padded(self, features: Float32Array) -> tuple[str, Float32Array]:
        """The version that is asked, and the rows with as many as its answers need beside them."""
        # First: a version that is followed meanwhile may need more rows than these are padded to.
        version = self.model_version
        if lacking := -len(features) % self.rows_multiple:
            features = np.concatenate([features, np.zeros((lacking, features.shape[1]), np.float32)])
        return version, features

    def look_soon(self) -> None:
        """The version may be gone: look now whether another counts."""
        if self._follows_newest:
            self._wake.set()

    def stop_following(self) -> None:
        """Look no more."""
        self._closing.set()
        self._wake.set()

    def _follow_releases(self) -> None:
        """A release keeps the version before loaded: it is followed while both answer."""
        while not self._closing.is_set():
            self._wake.wait(FOLLOW_EVERY_S)
            self._wake.clear()
            if self._closing.is_set():
                return
            self._follow(self.model_version)
            # A server that is gone must not be asked at the rate of the batches.
            self._closing.wait(SHORTEST_FOLLOW_S)

    def _follow(self, pinned: str) -> None:
        """Take the newest version that is ready, if it keeps the contract and answers.

        Only where no version was named. A server that does not answer, or a version that breaks the
        contract, leaves the pin as it is.
        """
        try:
            newest = self.newest_version()
            if newest == pinned:
                return
            self.check_version(newest)
            serving = self.serving_of(newest)
        except self.failures as error:
            log.warning("no other version to follow", pinned=pinned, reason=str(error)[:200])
        else:
            log.info("version followed", old=pinned, new=newest)
            self._before_following(newest, serving)
            # A batch that is being made of the version before is padded to more rows at the most.
            self.rows_multiple = max(serving.rows_multiple, self.rows_multiple)
            self.serving, self.model_version = serving, newest
