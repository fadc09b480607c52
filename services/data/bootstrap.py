"""Builds the data service on its adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from msgspec import Struct

from services.data.api.app import DataService, application
from services.data.api.cache import AnswerCache
from services.data.api.guard import Guard
from services.data.api.jobs import Jobs
from services.data.api.live import Tails
from services.data.api.tokens import Tokens
from services.data.archive.history import History
from services.data.archive.store import Archive
from services.data.market.following import Follower
from services.data.market.kafka_ticks import KafkaTickLog
from services.data.market.lived import LivedMarket
from services.data.market.questions import MarketQuestions
from services.data.observing import Metrics
from services.data.ports import Analyses, Evidence
from services.data.redis_answers import RedisAnswers
from services.data.settings import DataSettings
from services.data.trail.queries import TrailQuestions
from services.data.workers import Workers
from trading.errors import UltraThinkError
from trading.features.definitions import FEATURE_VERSION

MB = 1_048_576
#: What was read is archived in this time at the end; else it is read again.
JOIN_S = 20.0
#: A look at the trail is waited for so long, and counts for silence after so long.
QUICK_S, SILENT_S = 0.2, 3.0


class Built(Struct, frozen=True):
    """What serves, and what must be told that the end has come."""

    app: Guard
    end: Callable[[], None]


@contextmanager
def build(settings: DataSettings, evidence: Evidence, analyses: Analyses) -> Iterator[Built]:
    """Connect; whatever was opened is closed at the end. Servers that do not answer are waited for.

    Raises:
        ConfigurationError: an address, the tokens or the archive cannot be used.
    """
    with ExitStack() as opened:
        tokens, metrics = Tokens(settings.tokens, settings.token.get_secret_value()), Metrics()
        trail = TrailQuestions(settings.postgres_url.get_secret_value())
        opened.callback(trail.close)
        remote = RedisAnswers(settings.redis_url.get_secret_value()) if settings.redis_cache_mb else None
        market, history = LivedMarket(settings.memory_rows), History(settings.archive, settings.history_mb)
        follower = Follower(
            KafkaTickLog(settings.kafka_bootstrap, settings.ticks_topic), market,
            lambda topic_id: Archive(settings.archive, settings.ticks_topic, topic_id), settings.admission(),
            history.show, settings.flush_s,
        )  # fmt: skip
        questions = MarketQuestions(market, history, lambda: follower.problem)
        jobs, tails, looked = Jobs(), Tails(settings.most_tails), TrailWatch(trail.check)
        opened.callback(looked.close)
        service = DataService(
            questions, trail, evidence, analyses, jobs, tails,
            lambda: health(questions, follower.lost, looked.problem()),
            lambda: metrics.follows(questions.positions(), questions.problem()), metrics.registry,
            settings.most_days,
        )  # fmt: skip
        cache = AnswerCache(settings.cache_mb * MB, remote, settings.redis_cache_mb * MB, metrics.looked)
        guard = Guard(
            application(service), tokens, cache, metrics,
            lambda: f"{follower.topic_id} {FEATURE_VERSION} {trail.name}" if follower.topic_id else "",
            requests_per_s=settings.requests_per_s,
            most_at_once=settings.most_at_once, most_body=settings.most_body_bytes,
        )  # fmt: skip
        thread = threading.Thread(target=follower.run, name="ticks", daemon=True)
        thread.start()

        def end() -> None:
            tails.closing = True
            follower.stop()

        opened.callback(jobs.close)
        opened.callback(lambda: thread.join(JOIN_S))
        opened.callback(end)
        yield Built(guard, end)


class TrailWatch:
    """Whether the trail answers, looked at by a thread of its own: whoever asks for health never waits for it."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check, self._workers = check, Workers(1, "trail-watch")
        self._asked: Future[None] | None = None
        self._asked_s, self._problem, self._lock = time.monotonic(), "it has not answered yet", threading.Lock()

    def problem(self) -> str:
        """What a look says that is asked now, or the last one where it takes longer; "" where the trail answers."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked, self._asked_s = self._workers.submit(self._check), time.monotonic()
            try:
                self._asked.result(QUICK_S)
                self._problem = ""
            except TimeoutError:
                silent_s = time.monotonic() - self._asked_s
                return self._problem if silent_s < SILENT_S else f"PostgreSQL has not answered for {silent_s:.0f} s"
            except UltraThinkError as error:
                self._problem = str(error)
            return self._problem

    def close(self) -> None:
        """Look no more."""
        self._workers.close()


def health(questions: MarketQuestions, lost: int, without: str) -> dict[str, Any]:
    """What answers; the service is well while ticks are followed and archived, for the rest is told by name."""
    problem = questions.problem()
    positions = questions.positions()
    gone = f"{lost:,} ticks were deleted before they were read: answers say that they are not complete"
    parts = [
        ("ticks", problem, "live ticks and features, and their archive"),
        ("history", gone if lost else "", "features that rest on every tick"),
        (
            "postgresql", without,
            "decisions, positions, profit, regimes, models, limits, analyses",
        ),
    ]  # fmt: skip
    return {
        "ok": not problem, "feature_version": FEATURE_VERSION,
        "positions": {str(partition): offset for partition, offset in positions.items()},
        "parts": [
            {"name": name, "ok": not why, "problem": why or None, "needed_for": needed}
            for name, why, needed in parts
        ],
    }  # fmt: skip
