"""Checkpoints lie in three places alike; what does not fit ends signing."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.forensics.checkpoint_chain import MOST_FINDINGS, CheckpointChain
from services.forensics.checkpoint_files import BLOCK, CheckpointFiles
from services.forensics.checkpoints import digest, make, read, sign
from services.forensics.merkle.tree import GrowingTree
from services.forensics.ports import LogHead, LogName
from services.forensics.signing import AT_LEAST_EVERY_NS, SECOND_NS, Signer
from tests.trails import KEY, KEYS
from tests.unit.services.forensics.fakes import FakeLines, FakeTrail
from trading.errors import BadRecord, ServiceUnavailable

START_NS = 1_764_000_000 * SECOND_NS


def findings(lines):
    chain = CheckpointChain(KEYS)
    for line in lines:
        chain.take(line)
    return chain.findings


class Places:
    def __init__(self, folder):
        self.files, self.topic, self.trail = CheckpointFiles(folder / "trail"), FakeLines(), FakeTrail()
        self.head = LogHead(1, LogName("id", 0, "t"), "decisions", GrowingTree(), 0)

    def signer(self):
        signer = Signer(KEY, KEYS, self.files, self.topic, self.trail, again_s=0.0)
        self.alarms = signer.begin()
        return signer

    def sign(self, count, signer=None, begin_ns=START_NS):
        signer = signer or self.signer()
        for n in range(count):
            self.head.tree.append(b"%032d" % n)
            assert signer.sign([self.head], begin_ns + n * SECOND_NS) is not None
        return signer


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


def test_one_a_second_where_something_changed_and_one_a_minute_where_nothing_did(places):
    signer = places.sign(1)
    assert signer.sign([places.head], START_NS + 5 * SECOND_NS) is None
    assert signer.sign([places.head], START_NS + AT_LEAST_EVERY_NS).number == 1
    places.head.tree.append(b"x" * 32)
    assert signer.sign([places.head], START_NS + AT_LEAST_EVERY_NS + SECOND_NS // 2) is None
    assert signer.sign([places.head], START_NS + AT_LEAST_EVERY_NS + SECOND_NS).number == 2


def test_a_clock_that_steps_back_signs_on_and_no_earlier_than_before(places):
    signer = places.sign(1)
    places.head.tree.append(b"x" * 32)
    assert signer.sign([places.head], START_NS - 3600 * SECOND_NS).signed_at_ns == START_NS
    assert signer.sign([places.head], START_NS - 3600 * SECOND_NS) is None


def test_each_is_bound_to_the_one_before(places):
    places.sign(3)
    lines = list(places.files.lines())
    told = [read(line, KEYS) for line in lines]
    assert [c.number for c in told] == [0, 1, 2]
    assert [c.previous for c in told] == ["", digest(lines[0]), digest(lines[1])]
    assert findings(lines) == []


def test_a_place_that_was_away_gets_what_it_missed(places):
    places.topic.down, places.trail.down = 2, 2
    signer = Signer(KEY, KEYS, places.files, places.topic, places.trail, again_s=0.0)
    places.sign(4, signer)
    assert places.topic.kept == list(places.files.lines())
    assert [number for number, _ in places.trail.checkpoints] == [0, 1, 2, 3]


def test_a_place_that_was_away_until_forensics_was_killed_gets_what_it_missed(places):
    signer = places.sign(2)
    places.topic.down, places.trail.down = 99, 99
    day_ns = 86_400 * SECOND_NS
    for n in range(3):
        places.sign(2, signer, START_NS + (n + 1) * day_ns)
    places.topic.down, places.trail.down = 0, 0
    places.signer()
    assert places.alarms == []
    assert places.topic.kept == list(places.files.lines()) == [line for _, line in places.trail.checkpoints]
    assert [number for number, _ in places.trail.checkpoints] == list(range(8))


@pytest.mark.parametrize("lost", ["files", "topic", "trail", "files and topic"])
def test_a_place_that_was_lost_is_filled_from_the_others(places, lost, tmp_path):
    places.sign(4)
    lines = list(places.files.lines())
    if lost == "files":
        places.files = CheckpointFiles(tmp_path / "other")
    elif lost == "topic":
        places.topic = FakeLines()
    elif lost == "files and topic":
        places.files, places.topic = CheckpointFiles(tmp_path / "other"), FakeLines()
    else:
        places.trail = FakeTrail()
    signer = places.signer()
    assert places.alarms == []
    assert list(places.files.lines()) == places.topic.kept == lines
    assert places.trail.last_checkpoint() == lines[-1]
    assert signer.last.number == 3


def test_two_pasts_are_an_alarm_and_end_signing(places):
    places.sign(2)
    last = read(places.files.last(), KEYS)
    places.topic.kept[-1] = sign(make(last.number, last.signed_at_ns, "other", last.trees), KEY)
    signer = places.signer()
    assert [alarm.kind for alarm in places.alarms] == ["checkpoints_differ"]
    places.head.tree.append(b"x" * 32)
    assert signer.sign([places.head], START_NS + 60 * SECOND_NS) is None
    assert "another than elsewhere" in signer.refuses


def test_a_checkpoint_of_a_key_that_nobody_trusts_is_an_alarm(places):
    places.sign(1)
    places.topic.kept[-1] = sign(read(places.files.last(), KEYS), Ed25519PrivateKey.generate())
    assert "not trusted" in places.signer().refuses


@pytest.mark.parametrize("place", range(0, 900, 7))
def test_no_bit_of_a_line_can_be_changed(places, place):
    line = bytearray(places.sign(2).last and places.files.last())
    if place < len(line):
        line[place] ^= 1
        with pytest.raises(BadRecord):
            read(bytes(line), KEYS)


def test_lines_out_of_order_missing_or_of_smaller_trees_are_found(places):
    places.sign(5)
    lines = list(places.files.lines())

    def told(changed):
        return [f.number for f in findings(changed)]

    assert told(lines) == []
    assert told(lines[:2] + lines[3:]) == [2]
    assert told([lines[1], lines[0], *lines[2:]])[:2] == [0, 0]
    assert told([*lines[:3], lines[2], *lines[3:]]) == [2]
    assert told([b"rubbish", *lines[1:]]) == [0]
    third = read(lines[2], KEYS)
    assert told(
        [*lines[:3], sign(make(3, third.signed_at_ns, digest(lines[2]), read(lines[0], KEYS).trees), KEY)]
    ) == [3]


def test_of_very_many_checkpoints_that_were_changed_the_first_are_told_and_that_there_are_more():
    chain = CheckpointChain(KEYS)
    for number in range(MOST_FINDINGS + 500):
        chain.found(number, "the database's copy is another")
    assert len(chain.findings) == MOST_FINDINGS + 1
    assert chain.findings[-1].detail.startswith(f"and more, from checkpoint {MOST_FINDINGS} on")


def test_a_torn_line_is_cut_off_and_long_ones_are_read_whole(tmp_path):
    files = CheckpointFiles(tmp_path / "trail")
    assert (files.last(), list(files.lines())) == (None, [])
    long = b"x" * (3 * BLOCK)
    for line in (b"first", long, b"y"):
        files.append(line, START_NS)
        assert files.last() == line
    (path,) = files.files()
    with path.open("ab") as file:
        file.write(b"torn" * BLOCK)
    assert files.last() == b"y"
    files.append(b"after", START_NS)
    assert list(files.lines()) == [b"first", long, b"y", b"after"]


def test_a_day_has_a_file_and_a_clock_that_steps_back_writes_into_the_newest(tmp_path):
    files = CheckpointFiles(tmp_path)
    for line, at_ns in ((b"1", START_NS), (b"2", START_NS + 86_400 * SECOND_NS), (b"3", START_NS)):
        files.append(line, at_ns)
    assert [path.name for path in files.files()] == ["checkpoints-2025-11-24.jsonl", "checkpoints-2025-11-25.jsonl"]
    assert list(files.lines()) == [b"1", b"2", b"3"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "trail").write_text("a file")
    with pytest.raises(ServiceUnavailable, match="cannot be written"):
        CheckpointFiles(tmp_path / "trail").append(b"x", START_NS)
