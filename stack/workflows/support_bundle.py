"""Everything that somebody who helps from afar asks for, in one archive, without a secret."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from stack.processes.environment import secrets_told
from stack.servers.loopback import client
from stack.servers.settings import LOOPBACK, STORED, StackSettings
from stack.supervision.doctor import examine
from stack.supervision.status import read_status
from stack.watching.boards import BOARDS, over
from trading.encoding import safe_text
from trading.files import replace_file

#: Of each log, its end.
LOG_BYTES = 512 * 1024
HOUR_S, STEP_S = 3600, 15
ASK_S = 10.0
#: A password that is shorter is a word, and would be taken out of everything.
LEAST_SECRET = 6
LEAST_TOKEN = 24
#: What looks like a secret whoever's it is: passwords of addresses, bearers, keys, and what is called so.
NAMED = r"(?:password|passwd|secret|token|api[_-]?key|accountkey|credential|authorization)"
QUOTE = r"\\{0,8}[\"']"
#: A value in quotes, however often they are escaped, to where they end; else to the next space.
VALUE = rf"(?:(?P<quote>{QUOTE})(?:(?!(?P=quote)).){{1,4000}}|(?:(?:token|bearer|basic)\s+)?[^\s\"'\\]{{4,4000}})"
#: What is repeated has a bound: a line may be of any length, and of one letter.
SHAPES = (
    # To the last @ before the next slash: a password may hold one.
    (
        re.compile(r"(?P<keep>[a-z][a-z0-9+.-]{0,20}://[^\s:/@\"']{0,100}:)[^\s/\"']{1,300}(?=@)", re.IGNORECASE),
        "[password]",
    ),
    (re.compile(r"(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,4000}", re.IGNORECASE), "[token]"),
    (
        re.compile(
            rf"(?P<keep>(?:(?<=[^\w.-])|^)(?:[\w.-]{{0,40}}?){NAMED}[\w.-]{{0,40}}(?:{QUOTE})?(?:\s{{0,5}}(?:[=:]|%3[AaDd])\s{{0,5}}))"
            rf"{VALUE}",
            re.IGNORECASE | re.MULTILINE,
        ),
        "[secret]",
    ),
    (re.compile(rf"(?P<keep>--[\w-]{{0,40}}{NAMED}[\w-]{{0,40}}\s{{1,5}})\S{{4,4000}}", re.IGNORECASE), "[secret]"),
)
#: From its beginning, or from that of the text where it was cut, to its end.
KEY = re.compile(
    r"(?:-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----|\A(?:(?!-----BEGIN).)*?(?=-----END [A-Z ]{0,40}PRIVATE KEY))"
    r".*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


class Scrubber:
    """Takes secrets out of texts: those that are known, and what looks like one."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """`known`: secret -> what stands for it."""
        written = {form: word for secret, word in known.items() for form in forms_of(secret)}
        # The longer first: one may be a part of another.
        self._known = sorted(written.items(), key=lambda pair: -len(pair[0]))

    @classmethod
    def of(cls, home: Path, environment: Mapping[str, str], more: Mapping[str, str]) -> Scrubber:
        """Of every file in the folder of secrets, each line of it, of every variable that holds one, and more."""
        known = dict(more)
        folder = home / "secrets"
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_file():
                text = path.read_text(errors="replace")
                # Of a document its tokens alone: names and scopes are words.
                values = [one for one in strings_of(text) if len(one) >= LEAST_TOKEN] or [text, *text.splitlines()]
                known |= {one.strip(): f"[{path.name}]" for one in values}
        known |= {environment[name]: f"[{name}]" for name in secrets_told(environment)}
        return cls({secret: word for secret, word in known.items() if len(secret) >= LEAST_SECRET})

    def scrub(self, text: str) -> str:
        """The text without them."""
        for secret, word in self._known:
            text = text.replace(secret, word)
        text = KEY.sub("[key]", text)
        for shape, word in SHAPES:
            text = shape.sub(rf"\g<keep>{word}", text)
        return text


def forms_of(secret: str) -> Iterable[str]:
    """How a secret may be written: as it is, in a document, in a document in a document, in an address."""
    once = json.dumps(secret)[1:-1]
    yield from (secret, once, json.dumps(once)[1:-1], quote(secret, safe=""))


def strings_of(text: str) -> Iterable[str]:
    """Values in a document of JSON; none where it is none."""
    try:
        left: list[Any] = [json.loads(text)]
    except ValueError:
        return
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one


def write_bundle(settings: StackSettings, path: Path, progress: Callable[[str], None]) -> list[str]:
    """Write the archive; returns the names of what is in it. What cannot be had is named in `missing.txt`.

    Raises OSError where it cannot be written.
    """
    home = settings.absolute_home
    scrubber = Scrubber.of(home, os.environ, {settings.alert_webhook: "[webhook]"})
    texts, missing = {}, []
    for name, make in parts(settings).items():
        progress(name)
        try:
            texts[name] = scrubber.scrub(make())
        except Exception as error:  # noqa: BLE001 - whatever one part lacks, the others are wanted all the more
            missing.append(f"{name}: {type(error).__name__}: {error}")
    if missing:
        texts["missing.txt"] = scrubber.scrub("\n".join(missing) + "\n")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        # An archive knows no year before 1980, whatever the clock says.
        at = max(time.gmtime()[:6], (1980, 1, 1, 0, 0, 0))
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(safe_text(name), at), safe_text(text), zipfile.ZIP_DEFLATED)
    # Nobody else on this machine need see it.
    replace_file(path, made.getvalue(), mode=0o600)
    return sorted(safe_text(name) for name in texts)


def parts(settings: StackSettings) -> dict[str, Callable[[], str]]:
    """Name in the archive -> what makes its text."""
    home, ports = settings.absolute_home, settings.ports
    found: dict[str, Callable[[], str]] = {
        "status.json": lambda: document(read_status(home)),
        "settings.json": lambda: kept_settings(home / STORED),
        "doctor.json": lambda: document(examine(settings)),
        "versions.json": lambda: json.dumps(versions(), indent=1, sort_keys=True),
        "gateway.json": lambda: answered(f"http://{LOOPBACK}:{ports.gateway_metrics}/status"),
        "data.json": lambda: answered(f"http://{LOOPBACK}:{ports.data}/v1/health"),
        "alerts.json": lambda: answered(f"http://{LOOPBACK}:{ports.prometheus}/api/v1/alerts"),
        "metrics.json": lambda: metrics(f"http://{LOOPBACK}:{ports.prometheus}"),
    }
    for log in sorted((home / "logs").glob("*.log")):
        found[f"logs/{log.name}"] = partial(ending, log)
    return found


def kept_settings(path: Path) -> str:
    """Of the stack; the lines that somebody added to Kafka's configuration are named, and not told."""
    found = json.loads(path.read_bytes())
    found["kafka_extra"] = dict.fromkeys(found.get("kafka_extra", {}), "[not told]")
    return json.dumps(found, indent=1)


def document(value: object) -> str:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def versions() -> dict[str, str]:
    """Of this machine, Python, and everything that is installed."""
    # What is left of an installation that was broken off has no name.
    installed = {n: one.version for one in importlib.metadata.distributions() if (n := one.metadata["Name"])}
    return {"machine": platform.platform(), "python": platform.python_version(), **installed}


def answered(address: str) -> str:
    """What is answered there. Raises httpx.HTTPError."""
    return client().get(address, timeout=ASK_S).text


def ending(log: Path) -> str:
    """The end of a log, and of what was put aside before where it was begun anew just now; whole lines."""
    found = b""
    for path in (log, log.with_name(f"{log.name}.1")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            begin = file.seek(max(0, file.seek(0, os.SEEK_END) - (LOG_BYTES - len(found))))
            text = file.read()
            # A line that is cut may hold the end of a secret, which nobody knows by that.
            found = (text.partition(b"\n")[2] if begin else text) + found
        if len(found) >= LOG_BYTES // 2:
            break
    return found.decode("utf-8", "replace")


def metrics(prometheus: str) -> str:
    """Every query of every board over the last hour. Raises httpx.HTTPError, and ValueError for no answer."""
    end, found = time.time(), {}
    span: dict[str, str | float] = {"start": end - HOUR_S, "end": end, "step": STEP_S}
    address = f"{prometheus}/api/v1/query_range"
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                asked = {**span, "query": over(query, "1m")}
                answer = client().get(address, params=asked, timeout=ASK_S).json()
                found[f"{board.title} / {panel.title} / {query.legend}"] = answer["data"]["result"]
    return json.dumps(found)
