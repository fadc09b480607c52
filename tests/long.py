"""`python -m tests.long [--json]`: the tests that are marked long, with what became of each and how long it took.

A change does not wait for them: `make proof` runs them, and its result is committed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

#: What pytest's report calls them; without any a test has passed.
ENDS = {"failure": "failed", "error": "failed", "skipped": "skipped"}


def run(report: Path) -> int:
    """Run them, seen on stderr; the exit code of pytest."""
    command = [sys.executable, "-m", "pytest", "-m", "long", f"--junitxml={report}", "-o", "junit_family=xunit1"]
    process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # As if it were at the terminal: it ends its servers by itself.
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def ends(report: Path) -> list[dict[str, Any]]:
    """Name, end and seconds of each, the longest first; with the setup of what it needs."""
    told = []
    for case in ET.parse(report).iter("testcase"):
        end = next((ENDS[part.tag] for part in case if part.tag in ENDS), "passed")
        place = (case.get("file") or case.get("classname", "").replace(".", "/")) + "::" + case.get("name", "")
        told.append({"test": place, "end": end, "seconds": round(float(case.get("time", "0")), 1)})
    return sorted(told, key=lambda one: -one["seconds"])


def main(words: list[str]) -> int:
    """Exit code: 0 all passed, 1 one did not, was skipped, or there is none."""
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print what became of each as JSON")
    as_json = parser.parse_args(words).json
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = run(report)
        tests = ends(report) if report.is_file() else []
    if as_json:
        print(json.dumps({"tests": tests}))
    else:
        for one in tests:
            print(f"{one['end']:8} {one['seconds']:8.1f} s  {one['test']}")
    return int(code != 0 or not tests or any(one["end"] != "passed" for one in tests))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
