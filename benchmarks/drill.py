"""The whole drill from nothing: a fresh clone, `make demo`, then `ultrathink drill` as the clone has it.

`python -m benchmarks.drill` prints what was seen as JSON, and leaves that desk's boards in `docs/drill`; an hour.
It works in TMPDIR, else in /var/tmp: what is in memory elsewhere would be missed by the desk.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.child import printed
from stack.drill.table import DrillReport
from trading.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[1]
#: Where the boards' pictures are kept.
PICTURES = ROOT / "docs" / "drill"
#: What `make proof` writes as it goes on, and no clone needs.
WRITTEN = ("docs/proof.json", "docs/proof.md", "docs/drill")
#: An installation, a desk with its disk, and what is put aside of it.
NEEDED_GB = 30
#: Of the caller's surroundings a clone is told who and where it is, and how packages are had.
TOLD = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TERM", "TMPDIR", "PYENV_ROOT", "XDG_CACHE_HOME",
    "UV_CACHE_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
}  # fmt: skip
TOLD_WITH = (
    "LC_", "SSL_CERT_", "PIP_INDEX", "PIP_EXTRA_INDEX", "PIP_FIND_LINKS", "PIP_CERT", "PIP_DEFAULT_TIMEOUT",
    "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX", "UV_FIND_LINKS",
)  # fmt: skip


class FromNothing(Struct, frozen=True):
    """What a fresh clone did: seconds of `make demo` with its set-up, what the drill told, and its pictures."""

    demo_s: float
    drill: DrillReport
    pictures: list[str]


def drill(words: list[str]) -> FromNothing:
    """What came of it, the drill given these words.

    Raises ConfigurationError: something is not committed, there is no room, a step before the drill fails, or that
    tells nothing.
    """
    others = [f":!{name}" for name in WRITTEN]
    if told := ran(["git", "status", "--porcelain", "--", ".", *others], ROOT).decode().strip():
        raise ConfigurationError(f"a clone has what is committed, and this is not:\n{told}")
    at = os.environ.get("TMPDIR") or "/var/tmp"
    if (left := shutil.disk_usage(at).free) < NEEDED_GB * 10**9:
        room = f"{left / 1e9:.0f} GB left, and {NEEDED_GB} are needed"
        raise ConfigurationError(f"{at} has {room}: name another folder in TMPDIR")
    # An hour's report is not lost for a file that somebody still writes.
    with tempfile.TemporaryDirectory(prefix="ultrathink-drill-", dir=at, ignore_cleanup_errors=True) as place:
        clone, kept = Path(place) / "clone", Path(place) / "kept"
        ran(["git", "clone", "-q", str(ROOT), str(clone)], Path(place))
        began = time.monotonic()
        ran(["make", "demo"], clone, shown=True)
        demo_s = round(time.monotonic() - began, 1)
        report: DrillReport | None = None
        try:
            report = of_clone(clone, kept, words)
        finally:
            if report is None or not report.ok:
                sys.stderr.write(f"something did not hold: the logs are in {logs_of(kept, at)}\n")
        # Of a part of a drill the boards show a part.
        whole = report.counted is not None
        return FromNothing(demo_s, report, pictures_of(kept) if whole else [])


def of_clone(clone: Path, kept: Path, words: list[str]) -> DrillReport:
    """Raises ConfigurationError where it tells nothing."""
    command = [str(clone / ".venv/bin/ultrathink"), "drill", "--json", "--keep", str(kept), *words]
    # Exit code 1: something did not hold, which the report says.
    told = ran(command, clone, codes=(0, 1))
    try:
        return msgspec.json.decode(told, type=DrillReport)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"the drill told nothing: {error}") from error


def surroundings() -> dict[str, str]:
    """What a clone is told of the caller's: nothing of his desk, his Python, his make or his git."""
    proxies = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    return {
        name: value
        for name, value in os.environ.items()
        if name in TOLD or name.startswith(TOLD_WITH) or name.lower() in proxies
    }


def ran(command: list[str], folder: Path, *, shown: bool = False, codes: tuple[int, ...] = (0,)) -> bytes:
    """What a command prints; `shown`: on stderr. Raises ConfigurationError where its exit code is none of these."""
    code, told = printed(command, folder, surroundings(), shown=shown)
    if code not in codes:
        raise ConfigurationError(f"`{' '.join(command)}` ended with {code}")
    return told


def logs_of(kept: Path, at: str) -> Path:
    """The logs of a drill, put where they stay."""
    place = Path(tempfile.mkdtemp(prefix="ultrathink-drill-logs-", dir=at))
    for folder in kept.glob("logs*"):
        shutil.copytree(folder, place / folder.name)
    return place


def pictures_of(kept: Path) -> list[str]:
    """The boards' names, when their pictures are in docs."""
    found = sorted((kept / "boards").glob("*.png"))
    PICTURES.mkdir(exist_ok=True)
    for picture in found:
        shutil.copy(picture, PICTURES)
    return [picture.name for picture in found]


def main(words: list[str]) -> int:
    """Exit code: 0 all of it held, 1 something did not, 2 nothing was seen."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = drill(words)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0 if report.drill.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
