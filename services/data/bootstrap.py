"""Builds the data service on its adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from trading.errors import ServiceUnavailable
from trading.features.definitions import FEATURE_VERSION

MB = 1_048_576


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
        jobs, tails = Jobs(), Tails(settings.most_tails)
        service = DataService(
            questions, trail, evidence, analyses, jobs, tails,
            lambda: health(questions, trail, metrics), metrics.registry, settings.most_days,
        )  # fmt: skip
        cache = AnswerCache(settings.cache_mb * MB, remote, settings.redis_cache_mb * MB, metrics.looked)
        guard = Guard(
            application(service), tokens, cache, metrics, requests_per_s=settings.requests_per_s,
            most_at_once=settings.most_at_once, most_body=settings.most_body_bytes,
        )  # fmt: skip
        thread = threading.Thread(target=follower.run, name="ticks", daemon=True)
        thread.start()

        def end() -> None:
            tails.closing = True
            follower.stop()

        opened.callback(jobs.close)
        opened.callback(thread.join)
        opened.callback(end)
        yield Built(guard, end)


def health(questions: MarketQuestions, trail: TrailQuestions, metrics: Metrics) -> dict[str, Any]:
    """What answers; the service is well while ticks are followed, for the rest is told by name."""
    problem = questions.problem()
    try:
        trail.check()
        without = None
    except ServiceUnavailable as error:
        without = str(error)
    positions = questions.positions()
    for partition, offset in positions.items():
        metrics.read.labels(str(partition)).set(offset)
    metrics.waiting.set(bool(problem))
    parts = [
        {"name": "kafka", "ok": not problem, "problem": problem or None, "needed_for": "live ticks and features"},
        {
            "name": "postgresql", "ok": without is None, "problem": without,
            "needed_for": "decisions, positions, profit, regimes, models, limits, analyses",
        },
    ]  # fmt: skip
    return {
        "ok": not problem, "feature_version": FEATURE_VERSION,
        "positions": {str(partition): offset for partition, offset in positions.items()}, "parts": parts,
    }  # fmt: skip
