"""What the benchmarks have in common: what a process spent, processes of their own, and how a
figure is told.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRESS = "  · "
#: Files that were made once and are kept.
CACHE = ROOT / ".lakegate" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process spent.

    Attributes:
        cpu: Seconds of its CPU.
        wall: Seconds.
        peak_mb: Its largest resident size in MiB, from its start on.
        services_cpu: Seconds of CPU of its child processes in the same time.
    """

    cpu: float
    wall: float
    peak_mb: float
    services_cpu: float = 0.0


class Meter:
    """CPU and wall time since it was last started."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._cpu, self._wall, self._services = _own_cpu(), time.perf_counter(), _children_cpu()

    def read(self) -> Cost:
        """What was spent since."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Cost(
            cpu=_own_cpu() - self._cpu,
            wall=time.perf_counter() - self._wall,
            # Linux counts KiB, macOS bytes.
            peak_mb=peak / (1024 * 1024 if sys.platform == "darwin" else 1024),
            services_cpu=_children_cpu() - self._services,
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        bound: What the value may be at most, or at least; None where nothing is promised.
    """

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def ok(self) -> bool | None:
        """Whether the bound holds."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def told(self) -> dict[str, Any]:
        """As it stands in `results.json`."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "bound": self.bound,
            "ok": self.ok,
        }


def tell(figures: Sequence[Figure]) -> None:
    """Print the last line of a benchmark."""
    print(json.dumps({"results": [figure.told() for figure in figures]}))


def in_a_process(script: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """The last line that a script prints, as JSON.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        [python, script, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed with exit code {done.returncode}; see above.")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tell_cost(cost: Cost) -> None:
    """Print what a process spent, for `in_a_process`."""
    print(json.dumps(asdict(cost)))


def progress(said: str) -> None:
    """Say how far it is, where it is in nobody's way, and can be told from what runs log there."""
    print(f"{PROGRESS}{said}", file=sys.stderr, flush=True)


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _children_cpu() -> float:
    """Seconds of CPU of the running child processes; 0 where there is no /proc to ask."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The process's name, in brackets, may hold anything; the fields follow it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
