"""SOURCEs to a dataset on disk: the gateway's own kernel, then labels, then Parquet.

What is known tick by tick is written to plain files as it comes. Labels need the ticks that follow, so they are
made in a second pass over those files, mapped rather than loaded; the third writes Parquet. In memory are 24 bytes
a tick and about 100 a row, for the labels. The folder is renamed into place when all of it is on disk.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trading.errors import ConfigurationError, SourceError
from trading.features.definitions import FEATURE_VERSION, FEATURES
from trading.features.engine import FeatureEngine
from trading.files import replace_file, sync
from trading.history import Source
from trading.history.source import LivedBatch, LivedSource
from trading.market import MID, Tick, TickBatch
from trainers.code_version import git_commit
from trainers.data import labels as barrier
from trainers.data.bars import Bars, Sampling
from trainers.data.column_spool import Scratch, slices
from trainers.data.labels import Barriers
from trainers.data.manifest import FORMAT, NAME, Manifest, SourceSpan
from trainers.data.parquet_rows import FILE_ROWS, write_rows
from trainers.data.symbol_stats import Symbols

CHUNK = 8192
#: A clock may be a little ahead; a day ahead is a unit error.
FUTURE_NS = 86_400_000_000_000
#: Mean distances between a symbol's rows that a signal looks ahead, unless told.
DEFAULT_HORIZON_ROWS = 10
#: Fewer labelled rows teach nothing.
MIN_ROWS = 5_000


class BuildSettings(Struct, frozen=True):
    """How ticks become a dataset; without `horizon_ns` it is DEFAULT_HORIZON_ROWS mean distances of rows."""

    sampling: Sampling = Sampling()
    bars: str = "ticks"
    horizon_ns: int | None = None
    up: float = 2.0
    down: float = 2.0
    limit: int | None = None
    min_rows: int = MIN_ROWS


class TooFewRows(SourceError):
    """Its ticks are well, and too few of them have a label yet."""


class Reading(Struct):
    """What is known of a source as it is read."""

    ticks: int = 0
    first_ns: int = 0
    last_ns: int = 0


def build(
    sources: Sequence[Source], settings: BuildSettings, out: Path, progress: Callable[[str, int], None]
) -> Manifest:
    """Read sources through the gateway's kernel, label the rows, and write a dataset.

    Args:
        sources: of ticks; several are merged by their times of arrival.
        settings: which ticks are rows, and what their labels look at.
        out: a folder that does not exist, or is empty.
        progress: called with a stage and how many ticks or rows it has done.

    Raises:
        SourceError: a source cannot be read, or its ticks teach nothing.
        ConfigurationError: `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} is not empty: name a folder that does not exist yet")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.parent / f".{out.name}.{secrets.token_hex(4)}.building"
    staging.mkdir()
    scratch = Scratch(staging / "scratch")
    try:
        whole = Whole(sources, settings, scratch)
        whole.read(progress)
        manifest = whole.write(staging, progress)
        scratch.close()
        shutil.rmtree(staging / "scratch")
        sync(staging)
        if out.exists():
            out.rmdir()
        staging.rename(out)
        sync(out.parent)
    except BaseException:
        scratch.close()
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return manifest


class Whole:
    """One build: its three passes share what the first has counted."""

    def __init__(self, sources: Sequence[Source], settings: BuildSettings, scratch: Scratch) -> None:
        self._sources, self._settings, self._scratch = sources, settings, scratch
        self._engine, self._digest = FeatureEngine(), hashlib.sha256()
        self._bars = Bars(settings.sampling)
        self._symbols = Symbols()
        self._readings = [Reading() for _ in sources]
        self._left_out: Counter[str] = Counter()
        self._ticks = self._path = self._rows = 0
        self._sized = False

    def read(self, progress: Callable[[str, int], None]) -> None:
        """The first pass: every tick through the kernel."""
        if len(self._sources) == 1 and isinstance(self._sources[0], LivedSource):
            self._read_lived(self._sources[0], progress)
            return
        latest_allowed = time.time_ns() + FUTURE_NS
        for batch in self._batches():
            future = batch.event_time_ns > latest_allowed
            if future.any():
                self._left_out["time in the future"] += int(future.sum())
                keep = np.flatnonzero(~future)
                batch = TickBatch(  # noqa: PLW2901 - the same batch, without them
                    tuple(batch.symbols[k] for k in keep.tolist()), batch.event_time_ns[keep], batch.quotes[keep]
                )
            self._take(batch)
            progress("read", self._ticks)
        if not self._ticks:
            raise SourceError(f"{self._named()}: no tick is left: every event time lies in the future")
        self._check()

    def _read_lived(self, source: LivedSource, progress: Callable[[str, int], None]) -> None:
        """Of what a desk lived: its features are taken as it saw them, and of no clock but the log's is anything
        asked, so that the same offsets give the same rows whenever they are read.
        """
        self._symbols.since(source.first_ns)
        for one in source.lived(CHUNK):
            self._note(0, one.ticks)
            self._take(one.ticks, one)
            progress("read", self._ticks)
        self._left_out.update(source.left_out)
        if not self._ticks:
            raise SourceError(f"{self._named()}: no tick is left")
        self._check()

    def _batches(self) -> Iterator[TickBatch]:
        limit = self._settings.limit
        if len(self._sources) == 1:
            left = limit
            for batch in self._sources[0].batches(CHUNK):
                part = batch if left is None or len(batch) <= left else batch.part(0, left)
                self._note(0, part)
                yield part
                left = None if left is None else left - len(part)
                if left == 0:
                    return
            return
        streams = [numbered(k, source) for k, source in enumerate(self._sources)]
        merged = islice(heapq.merge(*streams, key=lambda one: one[:2]), limit)
        while chunk := list(islice(merged, CHUNK)):
            batch = TickBatch.from_ticks([tick for _, _, tick in chunk])
            which = np.array([k for _, k, _ in chunk])
            for k in np.unique(which).tolist():
                mine = np.flatnonzero(which == k)
                self._note(k, TickBatch(("",) * len(mine), batch.event_time_ns[mine], batch.quotes[mine]))
            yield batch

    def _note(self, source: int, batch: TickBatch) -> None:
        reading = self._readings[source]
        if len(batch):
            low, high = int(batch.event_time_ns.min()), int(batch.event_time_ns.max())
            reading.first_ns = low if reading.ticks == 0 else min(reading.first_ns, low)
            reading.last_ns = max(reading.last_ns, high)
            reading.ticks += len(batch)

    def _take(self, batch: TickBatch, lived: LivedBatch | None = None) -> None:
        if not len(batch):
            return
        rows = self._engine.update(batch)
        if lived is not None:
            rows = replace(rows, values=lived.features, warm=lived.warm & ~np.isnan(rows.market[:, MID]))
        numbers = self._symbols.number(batch)
        for piece in (",".join(batch.symbols).encode(), batch.event_time_ns.tobytes(), batch.quotes.tobytes()):
            self._digest.update(piece)
        self._sized |= bool((batch.quotes[:, 5] > 0).any())
        time_ns = self._symbols.times(numbers, batch.event_time_ns)
        mids = rows.market[:, 3]
        priced = ~np.isnan(mids)
        closed = self._bars.update(numbers, time_ns, batch.quotes, mids)
        keep = np.flatnonzero(closed.mask & rows.warm)
        place = self._path + np.cumsum(priced) - 1
        self._scratch.add(
            path_symbol=numbers[priced], path_time=time_ns[priced], path_mid=np.log(mids[priced]),
            row_path=place[keep], row_symbol=numbers[keep], row_time=time_ns[keep],
            row_age=time_ns[keep] - self._symbols.first_ns[numbers[keep]], row_quote_time=rows.quote_time_ns[keep],
            row_features=rows.values[keep], row_market=rows.market[keep],
            row_bar=closed.values[rows.warm[closed.mask]],
        )  # fmt: skip
        self._left_out["no price yet"] += int((~priced).sum())
        self._left_out["warming up"] += int((priced & ~rows.warm).sum())
        self._left_out["within a bar"] += int((rows.warm & ~closed.mask).sum())
        self._symbols.count(numbers, keep, mids)
        self._ticks += len(batch)
        self._path += int(priced.sum())
        self._rows += len(keep)

    def _check(self) -> None:
        standing = self._symbols.standing()
        if len(standing) == len(self._symbols.numbers):
            raise SourceError(
                f"{self._named()}: the price of {', '.join(standing[:5])} never changes: there is nothing to learn"
            )
        if self._settings.sampling.kind in {"volume", "dollar"} and not self._sized:
            raise SourceError(
                f"{self._named()} tells no sizes of trades, so {self._settings.bars} bars cannot be made: "
                "take time or tick bars"
            )
        if not self._rows:
            raise self._too_few(0)

    def _named(self) -> str:
        return ", ".join(source.spec for source in self._sources)

    def write(self, staging: Path, progress: Callable[[str, int], None]) -> Manifest:
        """The second and third passes: labels, then Parquet."""
        horizon_ns = self._settings.horizon_ns or int(DEFAULT_HORIZON_ROWS * self._symbols.mean_distance())
        if horizon_ns <= 0:
            raise SourceError(f"{self._named()}: its ticks span no time, so nothing lies ahead of any of them")
        made = self._label(Barriers(horizon_ns, self._settings.up, self._settings.down))
        progress("label", self._rows)
        labelled = int((made.valid & made.has_next).sum())
        self._left_out["row without a label"] = self._rows - labelled
        if labelled < self._settings.min_rows:
            raise self._too_few(labelled)
        files = tuple(write_rows(staging, self._scratch, made, self._symbols.numbers, progress))
        span = self._scratch.mapped("row_time")
        manifest = Manifest(
            format=FORMAT, feature_version=FEATURE_VERSION, features=FEATURES, data_hash=self._digest.hexdigest(),
            dataset_hash=hashlib.sha256("".join(f.sha256 for f in files).encode()).hexdigest(),
            bars=self._settings.bars, horizon_ns=horizon_ns, up=self._settings.up, down=self._settings.down,
            ticks=self._ticks, rows=self._rows, labelled=labelled,
            left_out={why: n for why, n in self._left_out.items() if n},
            sized=self._sized, first_ns=int(span.min()), last_ns=int(span.max()), sources=self._source_spans(),
            symbols=self._symbols.spans(), files=files, created=datetime.now(UTC).isoformat(timespec="seconds"),
            code=git_commit(),
        )  # fmt: skip
        replace_file(staging / NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        return manifest

    def _too_few(self, labelled: int) -> TooFewRows:
        kept = ", ".join(f"{n:,} {why}" for why, n in self._left_out.items() if n)
        return TooFewRows(
            f"{self._named()} gives {labelled:,} labelled rows; at least {self._settings.min_rows:,} are needed to "
            f"train (left out: {kept}): give more ticks, smaller bars or a shorter horizon"
        )

    def _label(self, barriers: Barriers) -> barrier.Labels:
        symbols, times = self._scratch.mapped("path_symbol"), self._scratch.mapped("path_time")
        count, n = len(self._symbols.numbers), self._rows
        place, ends = barrier.by_symbol(symbols, count)
        grouped_time, grouped_mid = np.empty(len(place), np.int64), np.empty(len(place))
        grouped_time[place], grouped_mid[place] = times, self._scratch.mapped("path_mid")
        rows, at = self._scratch.mapped("row_symbol"), self._scratch.mapped("row_time")
        deviation = np.concatenate(
            [
                barrier.deviations(
                    self._scratch.mapped("row_features")[part], self._scratch.mapped("row_age")[part],
                    barriers.horizon_ns,
                )
                for part in slices(n, FILE_ROWS)
            ]
            or [np.empty(0)]
        )  # fmt: skip
        side, realised = np.empty(n, np.int8), np.empty(n)
        end_ns, valid = np.empty(n, np.int64), np.empty(n, np.bool_)
        barrier.triple_barrier(
            place[self._scratch.mapped("row_path")], ends, np.asarray(rows), grouped_time, grouped_mid, deviation,
            barriers.horizon_ns, barriers.up, barriers.down, side, realised, end_ns, valid,
        )  # fmt: skip
        row_place, row_ends = barrier.by_symbol(rows, count)
        order = np.empty(n, np.int64)
        order[row_place] = np.arange(n)
        log_mid = np.log(self._scratch.mapped("row_market")[:, 3])
        following, next_ns, has_next = barrier.next_returns(order, row_ends, np.array(at), log_mid)
        valid &= has_next
        unique = barrier.uniqueness(order, row_ends, np.asarray(at), end_ns, valid)
        # What is trained on the next row must be purged by it too: it may lie far behind the label's end.
        end_ns = np.maximum(end_ns, next_ns)
        return barrier.Labels(side, realised, deviation, end_ns, valid, following, has_next, unique)

    def _source_spans(self) -> tuple[SourceSpan, ...]:
        return tuple(
            SourceSpan(
                source.spec, reading.ticks, reading.first_ns, reading.last_ns, source.dropped.count,
                tuple(f"line {bad.number}: {bad.reason}" for bad in source.dropped.first[:5]),
            )
            for source, reading in zip(self._sources, self._readings, strict=True)
        )  # fmt: skip


def numbered(number: int, source: Source) -> Iterator[tuple[int, int, Tick]]:
    """A source's ticks with their time of arrival and the source's number."""
    return ((record.arrival_ns, number, record.tick) for record in source.records())
