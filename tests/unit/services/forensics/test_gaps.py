"""Each offset without a record is explained, and what should not be is said."""

from __future__ import annotations

import random

from services.forensics.gaps import Gap, GapRun, LogGaps, explain


def test_a_log_with_everything_in_it():
    # 0-1 deleted by Kafka (0 was never on record), 2 a marker, 3-4 aborted, 5 their marker, 6 lost, 7 only on record.
    committed, written = [6, 8, 9], [3, 4, 6, 8, 9]
    found = list(explain([1, 7, 8, 9], committed, written, 2, 10))
    assert found == [
        GapRun(0, 0, Gap.BEFORE_LOG), GapRun(2, 2, Gap.MARKER), GapRun(3, 4, Gap.ABORTED),
        GapRun(5, 5, Gap.MARKER), GapRun(6, 6, Gap.NOT_ON_RECORD), GapRun(7, 7, Gap.ONLY_ON_RECORD),
    ]  # fmt: skip
    told = LogGaps("topic[0]", "id", counts={}, runs=[], wrong=[])
    for run in found:
        told.take(run)
    assert told.count(Gap.ABORTED) == 2
    assert [run.first for run in told.wrong] == [6, 7]
    assert told.runs == found


def test_a_whole_log_has_no_gaps_and_an_empty_one_neither():
    assert list(explain(range(100), range(100), range(100), 0, 100)) == []
    assert list(explain([], [], [], 0, 0)) == []


def test_every_offset_of_random_logs_is_explained_by_what_it_is():
    random_ = random.Random(5)
    for _ in range(300):
        kinds = [random_.choice(["kept", "aborted", "marker", "lost"]) for _ in range(random_.randint(1, 60))]
        held_from = random_.randint(0, len(kinds))
        trail = [o for o, kind in enumerate(kinds) if kind == "kept" or random_.random() < 0.02]
        committed = [o for o, kind in enumerate(kinds) if kind in {"kept", "lost"} and o >= held_from]
        written = [o for o, kind in enumerate(kinds) if kind != "marker" and o >= held_from]
        runs = list(explain(iter(trail), iter(committed), iter(written), held_from, len(kinds)))
        found = {o: run.why for run in runs for o in range(run.first, run.last + 1)}
        assert sum(run.count for run in runs) == len(found)
        for offset, kind in enumerate(kinds):
            known = offset in trail
            if offset < held_from:
                wanted = None if known else Gap.BEFORE_LOG
            elif known:
                wanted = None if kind in {"kept", "lost"} else Gap.ONLY_ON_RECORD
            else:
                wanted = {"aborted": Gap.ABORTED, "marker": Gap.MARKER}.get(kind, Gap.NOT_ON_RECORD)
            assert found.get(offset) == wanted, (offset, kind)
