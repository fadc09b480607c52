"""`make bench`, the data service's part: kept and new answers, beside an idle desk and one that decides, and where
it saturates.

Brings up a stack of its own with a gateway that decides and forensics beside it. Latency counts from the time for
which a request was meant; the generator, the desk and the service share the machine.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import BenchmarkFigures, say
from benchmarks.http_load import HttpFound, HttpLoad, load_http
from benchmarks.load import send_only
from services.data.client import DataClient
from stack.processes.data import DataProcess, running_data
from stack.processes.forensics import running_forensics, settings_with_key
from stack.processes.gateway import running_gateway
from stack.processes.settings import DATA_TOKEN
from stack.servers.settings import StackSettings
from stack.workflows.sandbox import MODELS, sandbox

TICKS, SYMBOLS = 60_000, 16
MARKET = f"simulate:regimes?ticks={TICKS}&symbols={SYMBOLS}"
SECONDS, WARM_UP_S = 15.0, 3.0
#: Distinct questions that are asked again and again: what is kept.
KEPT_QUESTIONS = 2000
FOREVER_MS = 3_600_000
#: Requests a second until one is not kept: p95 beyond its goal, or refusals.
STEPS = (500, 1000, 1500, 2000, 3000, 4000)
GOAL_MS = 20.0
#: Little memory, so that the archive is asked; no bound but what the machine can do.
GIVEN = {"flush_s": "5", "memory_rows": "20000", "requests_per_s": "100000"}

figures = BenchmarkFigures("data", "data service: answers over HTTP")
tell = figures.tell


def asked(client: DataClient, count: int) -> list[str]:
    """Features as of so many different offsets, over all symbols: each can be kept once it was answered."""
    found = []
    symbols = client.symbols()
    for k in range(count):
        one = symbols[k % len(symbols)]
        offset = one["last_offset"] * (k + 1) // (count + 1)
        found.append(f"/v1/features/{one['symbol']}?offset={offset}&partition={one['partition']}")
    return found


@contextmanager
def ticking(settings: StackSettings, rate: int, seconds: float) -> Iterator[None]:
    """Ticks at a rate meanwhile."""
    count = int(rate * seconds)
    thread = threading.Thread(
        target=send_only,
        args=(settings.kafka_bootstrap, f"simulate:regimes?seed=2&ticks={count}", f"{rate}/s", count),
    )
    thread.start()
    time.sleep(1.0)
    yield
    thread.join()


def measure(place: tuple[str, str], paths: list[str], rate: float, *, shuffled: bool = True) -> HttpFound:
    """One run."""
    return load_http(HttpLoad(*place, paths, rate, SECONDS, WARM_UP_S, shuffled))


def looks(address: str) -> dict[str, float]:
    """Of the cache, so far."""
    text = httpx.get(f"{address}/metrics", trust_env=False).text
    return {
        sample.labels["found"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "data_cache_looks_total"
    }


def warm(place: tuple[str, str], paths: list[str]) -> None:
    """Every answer once."""
    address, token = place
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http:
        for path in paths:
            http.get(path).raise_for_status()


def mixed(client: DataClient, paths: list[str]) -> list[str]:
    """What is asked anew each time: features from the archive and memory, positions and pages of the trail."""
    decisions = [f"/v1/decisions/{one['decision_id']}" for one in take(client.decisions(), 400)]
    pages = [f"/v1/decisions?limit=50&symbol={one['symbol']}" for one in client.symbols()]
    found = []
    for k, path in enumerate(paths):
        found.append(path)
        if k % 4 == 0:
            found.append(decisions[k // 4 % len(decisions)])
        if k % 50 == 0:
            found.append(pages[k // 50 % len(pages)].replace("limit=50", f"limit={50 + k % 7}"))
    return found


def take(items: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first of them."""
    return [one for _, one in zip(range(count), items, strict=False)]


def told(name: str, found: HttpFound, goal_ms: float) -> None:
    """A line, with what was not answered."""
    refused = {status: count for status, count in found.statuses.items() if status != 200}
    beside = f"p50 {found.p50:.1f}, p99 {found.p99:.1f} ms" + (f"; not answered: {refused}" if refused else "")
    tell(name, found.p95, "ms", at_most=goal_ms, beside=beside)


def saturation(place: tuple[str, str], paths: list[str]) -> None:
    """How many kept answers a second it gives before it is late or refuses."""
    kept = 0.0
    for rate in STEPS:
        found = measure(place, paths, rate)
        refused = 1 - found.statuses.get(200, 0) / max(1, found.sent)
        say(f"    {rate}/s: p95 {found.p95:.1f} ms, {refused:.1%} refused or not answered")
        if refused > 0.001 or not found.p95 < GOAL_MS:
            break
        kept = rate
    tell("kept answers until it saturates", kept, "requests/s", at_least=1000)


def run(settings: StackSettings) -> None:
    """All of it on one desk."""
    with running_forensics(settings), running_data(settings, **GIVEN) as data:
        send_only(settings.kafka_bootstrap, MARKET, "max", TICKS)
        with running_gateway(settings, model_name=MODELS[1], budget_ms=FOREVER_MS) as gateway:
            while gateway.decided() < TICKS:
                time.sleep(0.2)
        with DataClient(data.address, settings.secret(DATA_TOKEN)) as client:
            while sum(1 for _ in client.decisions(limit=5000)) < TICKS:
                time.sleep(1.0)
            report(settings, data, client)


def report(settings: StackSettings, data: DataProcess, client: DataClient) -> None:
    """Figures of a service that has read everything."""
    place, kept = (data.address, settings.secret(DATA_TOKEN)), asked(client, KEPT_QUESTIONS)
    warm(place, kept)
    say("kept answers, the desk idle:")
    before = looks(data.address)
    told("kept, 1,000 requests/s, p95", measure(place, kept, 1000.0), GOAL_MS)
    after = looks(data.address)
    hits = sum(after[name] - before[name] for name in ("memory", "redis"))
    tell("of them from the cache", 100 * hits / sum(after[n] - before[n] for n in after), "%")
    say("new answers, the desk idle:")
    fresh = mixed(client, asked(client, 30_000))
    told("new, 100 requests/s, p95", measure(place, fresh, 100.0, shuffled=False), 200.0)
    saturation(place, kept)
    say("beside a desk that decides 500 ticks a second:")
    with (
        running_gateway(settings, model_name=MODELS[1], budget_ms=FOREVER_MS),
        ticking(settings, 500, SECONDS + WARM_UP_S + 4),
    ):
        told("kept, 300 requests/s beside 500 ticks/s, p95", measure(place, kept, 300.0), GOAL_MS)


def main() -> None:
    """Bring a stack up, and measure."""
    with tempfile.TemporaryDirectory(prefix="ultrathink-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with sandbox(home, show=lambda text: say(f"  {text}")) as settings:
            settings_with_key()
            run(settings)
    figures.save()


if __name__ == "__main__":
    main()
