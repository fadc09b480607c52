"""What would stop the desk's start on this machine, or slow it down, and the way out of each."""

from __future__ import annotations

import ctypes
import locale
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

from exporters.errors import ExportError
from exporters.target import gpu_validation
from exporters.target.findings import Finding, finding, tried
from stack.processes.environment import misspelt
from stack.servers import kafka, postgres, prometheus, redis
from stack.servers.identity import Identity
from stack.servers.ports import holder, is_free
from stack.servers.settings import StackSettings, free_disk_mb
from stack.servers.surroundings import CERTIFICATES
from stack.supervision import machine
from stack.supervision.catalogue import services
from stack.supervision.checks import port_variable
from stack.supervision.orphans import left_behind
from stack.supervision.status import read_status

#: A broker holds three files a segment of 128 MB: so many are 700 GB of log.
LEAST_FILES = 16_384
#: The first driver with CUDA 12.8, which has kernels for an RTX 5070.
LEAST_DRIVER = 570
#: Nobody's clock is right before this code was written.
LEAST_TIME_S = 1_790_000_000.0
#: Of `adjtimex`: the clock is not synchronised.
TIME_ERROR = 5
MB = 2**20


def examine(settings: StackSettings) -> list[Finding]:
    """Every check, for the profile of the settings."""
    return [
        ports(settings),
        disk(settings),
        memory(settings),
        swap(),
        open_files(),
        clock(),
        encoding(),
        proxies(os.environ),
        unknown_variables(os.environ),
        driver(),
        computed(settings),
        *libraries(),
        left_over(settings),
    ]


def ports(settings: StackSettings) -> Finding:
    """Free, or held by this stack."""
    status = read_status(settings.absolute_home)
    ours = {s.name for s in status.services} if status is not None and status.alive else set()
    taken = [
        (s.name, port) for s in services(settings) if s.name not in ours for port in s.ports if not is_free(port)
    ]
    if not taken:
        return Finding("ports", "fits", "held by the stack that is up" if ours else "all are free")
    name, port = taken[0]
    return finding(
        "ports", False, f"{port}, which {name} needs, is held by {holder(port)}" + more(len(taken) - 1),
        f"end that, set {port_variable(settings, port)}, or use `--ports auto`",
    )  # fmt: skip


def more(count: int) -> str:
    """How many others there are."""
    return f", and {count} more are taken" if count > 0 else ""


def disk(settings: StackSettings) -> Finding:
    """Room for the logs of Kafka and PostgreSQL, and a folder that can be written."""
    home = settings.absolute_home
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return finding("disk", False, f"{nearest} cannot be written", "own it, or give another --home")
    free, least = free_disk_mb(home), settings.least_disk_mb
    return finding(
        "disk", free >= 2 * least, f"{free:,} MB free for {home}",
        f"below {least:,} MB the desk is reduced: free some, or give a --home on another disk",
    )  # fmt: skip


def memory(settings: StackSettings) -> Finding:
    """All ceilings together, beside what is free here."""
    wanted = sum(service.memory_limit_mb for service in services(settings))
    status = read_status(settings.absolute_home)
    used = sum(s.memory_mb for s in status.services) if status is not None and status.alive else 0.0
    limit = container_limit_mb()
    free = psutil.virtual_memory().available / MB + used
    free, where = (free, "free") if limit is None else (min(free, limit), "free within this container's limit")
    if free >= wanted:
        return Finding("memory", "fits", f"{free:,.0f} MB {where}; all ceilings together are {wanted:,} MB")
    return Finding(
        "memory", "cannot tell" if free >= wanted / 2 else "does not fit",
        f"{free:,.0f} MB {where}, and all ceilings together are {wanted:,} MB",
        "end other programs, add memory, or start `--profile servers`: what needs all of its ceiling would be "
        "killed (exit 137)",
    )  # fmt: skip


def container_limit_mb(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """What a control group allows in all; None where it says nothing or is not there."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        # The older form says "no limit" by a number that no machine has.
        if text.isdigit() and int(text) < 2**60:
            return int(text) / MB
    return None


def swap() -> Finding:
    """None is wanted: a gateway whose pages were written out is late by seconds."""
    found = psutil.swap_memory()
    swappiness = read_number(Path("/proc/sys/vm/swappiness"))
    if found.total == 0:
        return Finding("swap", "fits", "none, as it should be where 50 ms count")
    return Finding(
        "swap", "fits" if swappiness is not None and swappiness <= 10 else "cannot tell",
        f"{found.used / MB:,.0f} of {found.total / MB:,.0f} MB used, swappiness {swappiness}",
        "`sysctl vm.swappiness=1` keeps what decides in memory; in compose, memswap_limit equal to mem_limit",
    )  # fmt: skip


def read_number(path: Path) -> int | None:
    """Of a file of the kernel's."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def open_files() -> Finding:
    """As many as brokers hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fits = soft == resource.RLIM_INFINITY or soft >= LEAST_FILES
    return finding(
        "open files", fits, "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} a process",
        f"`ulimit -n {LEAST_FILES}` before the start (at most {hard:,} here), or LimitNOFILE= in the unit",
    )  # fmt: skip


def clock() -> Finding:
    """Synchronised, and of this age: deadlines are wall time, and brokers refuse what is dated in the future."""
    if (now_s := time.time()) < LEAST_TIME_S:
        told = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        return finding("clock", False, f"it says {told}", "set it: `timedatectl set-ntp true`, or chrony")
    # A struct timex with modes = 0 asks, and changes nothing; its fields are not looked at.
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        state = -1
    if state == -1:
        return Finding("clock", "cannot tell", "the kernel does not say whether it is synchronised")
    if state == TIME_ERROR:
        return Finding(
            "clock", "cannot tell", "the kernel says that nobody keeps it right",
            "run chrony or systemd-timesyncd; of a container, on its host",
        )  # fmt: skip
    return Finding("clock", "fits", "kept right, says the kernel")


def encoding() -> Finding:
    """Names and reasons may hold any letter."""
    found = locale.getpreferredencoding(do_setlocale=False)
    return finding(
        "locale", found.upper().replace("-", "") == "UTF8", found, "`export LC_ALL=C.UTF-8` before the start"
    )


def proxies(environment: Mapping[str, str]) -> Finding:
    """Loopback is never proxied here, whatever is set; files of certificates must exist."""
    missing = [n for n in ("SSL_CERT_FILE", *CERTIFICATES) if (f := environment.get(n)) and not Path(f).is_file()]
    if missing:
        name = missing[0]
        return finding("proxies", False, f"{name} names {environment[name]}, which is no file", f"`unset {name}`")
    found = sorted(
        n for n in environment if n.lower() in {"http_proxy", "https_proxy", "all_proxy"} and environment[n]
    )
    return Finding("proxies", "fits", f"{', '.join(found)}; never for loopback" if found else "none")


def unknown_variables(environment: Mapping[str, str]) -> Finding:
    """A variable of ours that no setting has does nothing, and whoever wrote it thinks that it does."""
    wrong = misspelt(environment)
    if not wrong:
        return Finding("variables", "fits", "every ULTRATHINK_* of a process is a setting that exists")
    first, near = next(iter(wrong.items()))
    way = f"mend its name (did you mean {near}?), or `unset` it" if near else "mend its name, or `unset` it"
    return finding("variables", False, f"{first} is no setting" + more(len(wrong) - 1), way)


def driver() -> Finding:
    """Of the GPU; without one, models run on the processor here."""
    program = shutil.which("nvidia-smi")
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - its library raises its own where no driver is loaded
        if program is None:
            return Finding("driver", "fits", "no GPU here: the embedded Triton runs on the processor")
        return finding(
            "driver", False, f"nvidia-smi is installed and the driver says: {error}", "reboot, or reinstall it"
        )
    try:
        told = str(pynvml.nvmlSystemGetDriverVersion())
        return finding(
            "driver", int(told.partition(".")[0]) >= LEAST_DRIVER, told,
            f"CUDA 12.8 needs driver {LEAST_DRIVER} or newer",
        )  # fmt: skip
    finally:
        pynvml.nvmlShutdown()


def computed(settings: StackSettings) -> Finding:
    """Whether torch and Triton have computed on the GPU, or were never asked to."""
    check, path = "GPU computes", settings.absolute_home / gpu_validation.FILE
    try:
        found = gpu_validation.read(path)
    except ExportError as error:
        return finding(check, False, str(error), f"delete {path}")
    torch = gpu_validation.installed()
    told = "; ".join(gpu_validation.words(found, torch))
    seen = [one for one in (found.torch, found.triton) if one is not None]
    if not seen and not machine.has_gpu():
        return Finding(check, "fits", "no GPU here")
    if any(not one.ok for one in seen):
        return finding(
            check, False, told, "mend that, then `ultrathink gpu check` and `ultrathink gpu probe` again"
        )
    if found.ok and not gpu_validation.is_of_another_torch(found, torch):
        return Finding(check, "fits", told)
    return Finding(
        check, "cannot tell", told, "`ultrathink gpu check`, and `ultrathink gpu probe` once Triton runs"
    )


def libraries() -> list[Finding]:
    """The programs of the servers."""
    looks: dict[str, Callable[[], str]] = {
        "Kafka's Java": lambda: str(kafka.java()),
        "Kafka's jars": kafka_jars,
        "Redis": redis.program,
        "PostgreSQL": lambda: str(postgres.binaries()),
    }
    found = [tried(check, look) for check, look in looks.items()]
    found += [one for one in machine.examine() if one.check != "ports"]
    program = prometheus.program()
    found.append(
        Finding("Prometheus", "fits", program)
        if program
        else Finding("Prometheus", "cannot tell", "not on PATH: metrics are served but not collected",
                     "Debian: apt-get install prometheus")
    )  # fmt: skip
    return [
        *found,
        Finding("this package", "fits", f"{version('ultrathink-pilot')}, Python {sys.version.split()[0]}"),
    ]


def kafka_jars() -> str:
    """Their version. Raises ConfigurationError where they are missing."""
    from trading.errors import ConfigurationError

    if (found := kafka.version()) == "unknown":
        raise ConfigurationError(f"no jars in {kafka.jar_folder()}: `make setup` brings them")
    return found


def left_over(settings: StackSettings) -> Finding:
    """What a supervisor that was killed left running; the next start ends it."""
    home = settings.absolute_home
    status = read_status(home)
    if status is not None and status.alive:
        return Finding("earlier start", "fits", "the stack is up")
    found: list[tuple[str, Identity]] = left_behind(home)
    if not found:
        return Finding("earlier start", "fits", "nothing is left of one")
    names = ", ".join(dict.fromkeys(name for name, _ in found))
    return Finding(
        "earlier start", "cannot tell", f"its supervisor is gone, and these run on: {names}",
        "`ultrathink stack up` ends them and starts anew, `ultrathink stack down` ends them",
    )  # fmt: skip
