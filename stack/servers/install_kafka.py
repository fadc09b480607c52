"""Fetch Kafka's jars into the environment and check them: `python -m stack.servers.install_kafka`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stack.servers.kafka import JARS, jar_folder
from stack.servers.surroundings import settle

FILES = JARS.parent


def expected() -> dict[str, str]:
    """Relative path -> sha256, from the committed lock."""
    lines = JARS.read_text().splitlines()
    return {path: digest for digest, path in (line.split() for line in lines)}


def wrong(folder: Path) -> list[str]:
    """Jars that are missing or have other bytes than the lock says."""
    return [
        path
        for path, digest in expected().items()
        if not (folder / path).is_file() or hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest
    ]


def install() -> None:
    """Resolve into a temporary folder, verify, then move into place."""
    target = jar_folder()
    if not wrong(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        shutil.copy(FILES / "jgo.toml", folder)
        environment = {
            **os.environ,
            "JGO_CACHE_DIR": str(folder / "kafka"),
            "M2_REPO": str(folder / "m2"),
            "XDG_RUNTIME_DIR": str(folder),
        }
        settle(environment)
        done = subprocess.run(
            [sys.executable, "-m", "jgo", "--resolver", "python", "--class-path-only", "sync"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        bad = wrong(folder / "kafka")
        if bad:
            detail = (done.stderr or done.stdout)[-1000:]
            raise SystemExit(f"Kafka's jars are incomplete or altered: {', '.join(bad[:5])}\n{detail}")
        shutil.rmtree(target, ignore_errors=True)
        (folder / "kafka").rename(target)


if __name__ == "__main__":
    install()
