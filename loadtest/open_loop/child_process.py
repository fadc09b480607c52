"""A child process that is told what to do in lines, and tells what it did in lines.

What measures must not wait for what it measures: neither for its garbage collector nor for its lock.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from connectors.kafka.client import Consumer, KafkaError, KafkaException, TopicPartition
from connectors.kafka.errors import is_denied, silent, translated
from loadtest.errors import InvalidInput, InvalidRun
from loadtest.measuring.preflight import only_loopback
from trading.errors import SourceError, UltraThinkError

READY, PROGRESS, DONE, ERROR, REFUSED = "ready", "at", "done", "error", "refused"
ANSWER_S = 5.0
#: What a broker says of a partition between two leaders.
LEADERLESS = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
#: How often two children are heard in turns.
HEED_S = 0.25


class Child:
    """`python -m MODULE`, with its instructions as JSON in its only argument."""

    def __init__(self, module: str, spec: dict[str, Any], progress: Callable[[dict[str, Any]], None]) -> None:
        self._name, self._progress = module.rsplit(".", 1)[-1], progress
        self._lines: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the parent, which closes the child's standard input and so ends it without a traceback.
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Say a line to the child; a child that has ended will say why when it is asked."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def expect(self, word: str, timeout_s: float = math.inf, *, beside: Child | None = None) -> dict[str, Any]:
        """What comes with the word.

        Args:
            word: what the line begins with.
            timeout_s: how long to wait for it.
            beside: another child that must live meanwhile; its progress is told too.

        Raises:
            InvalidRun: either child's own sentence, or that it did not answer.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if beside is not None:
                beside.heed()
            try:
                line = self._lines.get(timeout=min(HEED_S, timeout_s))
            except queue.Empty:
                continue
            found = self._take(line, word)
            if found is not None:
                return found
        raise InvalidRun(f"the {self._name} did not answer within {timeout_s:.0f} s")

    def heed(self) -> None:
        """Hear what the child has said so far. Raises InvalidRun if that was its last word."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._lines.get_nowait(), "")

    def _take(self, line: str, word: str) -> dict[str, Any] | None:
        first, _, rest = line.partition(" ")
        if first == PROGRESS:
            self._progress(json.loads(rest))
        elif first == ERROR:
            raise InvalidRun(json.loads(rest))
        elif first == REFUSED:
            raise InvalidInput(json.loads(rest))
        elif not line:
            code = self._process.wait()
            raise InvalidRun(f"the {self._name} ended with exit code {code}; its error is above")
        elif first == word:
            return dict(json.loads(rest or "{}"))
        return None

    def close(self) -> None:
        """End the child, whatever it does."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join()

    def _read(self, stream: IO[str] | None) -> None:
        if stream is not None:
            with stream:
                for line in stream:
                    self._lines.put(line.rstrip("\n"))
        self._lines.put("")


# ---- the child's side -----------------------------------------------------------------------


def say(word: str, told: Any = None) -> None:
    """A line to the parent."""
    sys.stdout.write(f"{word} {json.dumps({} if told is None else told)}\n")
    sys.stdout.flush()


class Orders:
    """Lines from the parent, read in a thread; without a parent this process has no purpose and ends."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self.finished = False
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self) -> str:
        """The next line."""
        return self._lines.get()

    def take(self) -> str | None:
        """The next line, if there is one."""
        try:
            return self._lines.get_nowait()
        except queue.Empty:
            return None

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip())
        if not self.finished:
            os._exit(3)


def run(work: Callable[[dict[str, Any], Orders], dict[str, Any]]) -> None:
    """A child's main: instructions in, an answer or a sentence out."""
    orders = Orders()
    try:
        told = work(json.loads(sys.argv[1]), orders)
    except (InvalidInput, SourceError) as error:
        say(REFUSED, str(error))
    except UltraThinkError as error:
        say(ERROR, str(error))
    except KafkaException as error:
        say(ERROR, sentence(error))
    except OSError as error:
        say(ERROR, f"{error.filename or 'the scratch folder'}: {error.strerror or error}")
    else:
        say(DONE, told)
    orders.finished = True


def sentence(error: KafkaException) -> str:
    """A broker's refusal in words."""
    denied = is_denied(error.args[0])
    return str(translated(error, "Kafka gives no permission" if denied else "Kafka does not answer"))


def ends_of(bootstrap: str, topic: str) -> dict[int, int]:
    """The next offset of each partition.

    Raises:
        InvalidRun: nobody answers, the topic is missing, or it may not be read.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ultrathink-bounds", "log_level": 0})
    try:
        try:
            found = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
        except KafkaException as error:
            raise InvalidRun(_silent(bootstrap, error)) from None
        if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise InvalidRun(f"Kafka at {bootstrap} gives no permission to see topic {topic}")
        if found.error is not None or not found.partitions:
            raise InvalidRun(f"topic {topic} does not exist on {bootstrap}")
        return {p: _end_of(consumer, TopicPartition(topic, p), bootstrap) for p in sorted(found.partitions)}
    finally:
        consumer.close()


def _end_of(consumer: Consumer, partition: TopicPartition, bootstrap: str) -> int:
    """The next offset. A partition that is new, or whose broker has just come back, has no leader for a moment."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            found = consumer.get_watermark_offsets(partition, ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                raise InvalidRun(_silent(bootstrap, error)) from None
            time.sleep(0.05)
        else:
            if found is None:
                raise InvalidRun(
                    f"Kafka at {bootstrap} does not say within {ANSWER_S:g} s where {partition.topic} ends"
                )
            return int(found[1])


def brokers_here(bootstrap: str, *, allow_remote: bool) -> None:
    """Refuse brokers of another machine behind an address of this one (a tunnel, say). Raises InvalidRun."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ultrathink-bounds", "log_level": 0})
    try:
        brokers = consumer.list_topics(timeout=ANSWER_S).brokers.values()
    except KafkaException as error:
        raise InvalidRun(_silent(bootstrap, error)) from None
    finally:
        consumer.close()
    for broker in brokers:
        only_loopback(f"{broker.host}:{broker.port}", allow_remote=allow_remote)


def _silent(bootstrap: str, error: KafkaException) -> str:
    return str(translated(error, silent(bootstrap)))
