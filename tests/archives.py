"""An archive as the data service writes one, of ticks that nobody sent."""

from __future__ import annotations

import numpy as np

from services.data.archive.history import History
from services.data.archive.store import Archive
from services.data.market.following import Follower
from services.data.market.lived import LivedMarket
from tests.unit.services.data.fakes import FakeTickLog
from trading.encoding import encode
from trading.intake import Admission
from trading.state.log import LoggedMessage


def logged(ticks, appended_ns=None, first=0):
    """Messages of ticks, in their order; taken by the broker at their own times, unless told otherwise."""
    at = [tick.event_time_ns for tick in ticks] if appended_ns is None else appended_ns
    at = np.maximum.accumulate(np.array(at, np.int64)).tolist()
    return [
        LoggedMessage(first + k, at[k], b"K", encode(tick), None, at[k]) for k, tick in enumerate(ticks)
    ]  # fmt: skip


def write_archive(folder, partitions, chunk=2000):
    """Archive what lies in these partitions: partition -> messages; what is there already is gone on with."""
    log, market = FakeTickLog(partitions, chunk=chunk), LivedMarket(10**9)
    newest = max(m[-1].appended_ns for m in partitions.values())

    def opened(topic_id):
        return Archive(folder, "market.ticks", topic_id, lambda: newest, split_rows=10**9)

    follower = Follower(log, market, opened, Admission(), History(folder).show, 1e9)
    follower.begin()
    while any(m[-1].offset >= log.places[p] for p, m in partitions.items()):
        follower.turn()
    follower.end()
