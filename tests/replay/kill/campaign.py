"""A campaign: every scenario once undisturbed, then once for each boundary and each side of it,
killed there, run again, and judged.

The undisturbed run stops after each unit (a tick, a run, a command) and leaves a checkpoint: a
cloud and a Dagster home that can be copied. A case starts from the checkpoint before its unit, so
that only what follows is done again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.replay.kill.control import told
from tests.replay.kill.forking import Json, ask, wait_for
from tests.replay.kill.memory import Memory
from tests.replay.kill.scenarios import Scenario, Stage, scenarios

_ROOT = Path(__file__).resolve().parents[3]
_CONFIGURATION = _ROOT / "deploy" / "dagster.yaml"


class CampaignError(Exception):
    """A scenario cannot be played even undisturbed, so there is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the undisturbed play stood between two of its units.

    Attributes:
        cloud: The socket by which its cloud is copied.
        home: Its Dagster home.
        first: How many boundaries came before it.
    """

    cloud: Path
    home: Path
    first: int


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A scenario, played once undisturbed.

    Attributes:
        boundaries: All, in order.
        checkpoints: The first before the play; the last at its end.
        complaints: What the oracle says of the undisturbed lake.
        digest: Its.
    """

    scenario: Scenario
    boundaries: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    complaints: tuple[str, ...]
    digest: Json

    def before(self, number: int) -> Checkpoint:
        """The last checkpoint before a boundary."""
        return max((c for c in self.checkpoints if c.first < number), key=lambda found: found.first)


@dataclass(frozen=True, slots=True)
class Case:
    """One kill: before or after the n-th boundary of a scenario, from 1."""

    scenario: str
    number: int
    after: bool

    def __str__(self) -> str:
        return f"{self.scenario}/{self.number:03d}-{'after' if self.after else 'before'}"

    @classmethod
    def named(cls, name: str) -> Case:
        """The case of a name.

        Raises:
            ValueError: it is none.
        """
        scenario, _, point = name.partition("/")
        number, _, side = point.partition("-")
        if side not in ("before", "after") or not number.isdigit():
            raise ValueError(f"{name!r} is no case; expected such as path/017-after.")
        return cls(scenario, int(number), side == "after")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to.

    Attributes:
        boundary: Where it was killed.
        complaints: What is wrong; nothing, if all is well.
    """

    case: Case
    boundary: str
    lost: int
    doubled: int
    complaints: tuple[str, ...]
    seconds: float


def cases_of(rehearsed: Rehearsed) -> list[Case]:
    """All cases of a scenario."""
    return [
        Case(rehearsed.scenario.name, number, after)
        for number in range(1, len(rehearsed.boundaries) + 1)
        for after in (False, True)
    ]


def by_turns(cases: Sequence[Case]) -> list[Case]:
    """Cases in another order: every boundary on one side by turns, and then on the other, so that
    whatever is left out for want of time, each boundary has been met."""
    return sorted(cases, key=lambda case: (case.after == bool(case.number % 2), case.number))


def one_of_each(rehearsed: Rehearsed) -> list[Case]:
    """A case for each operation of each service, on either side by turns."""
    first: dict[str, int] = {}
    for number, boundary in enumerate(rehearsed.boundaries, 1):
        first.setdefault(boundary.split(" ", 1)[0], number)
    return [
        Case(rehearsed.scenario.name, number, bool(turn % 2))
        for turn, number in enumerate(first.values())
    ]


def new_kinds(rehearsed: Rehearsed, known: set[str]) -> list[Case]:
    """Both sides of the first boundary of each kind that is not known yet, and now is."""
    new: set[int] = set()
    for number, boundary in enumerate(rehearsed.boundaries, 1):
        if boundary not in known:
            known.add(boundary)
            new.add(number)
    return [case for case in cases_of(rehearsed) if case.number in new]


@dataclass(slots=True)
class Campaign:
    """The processes that everything is copied from; see `campaign`.

    Attributes:
        ends: By the name of a rehearsed scenario, what is left of it.
    """

    folder: Path
    stage: Stage
    ends: dict[str, Checkpoint] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def scenarios(self) -> dict[str, Scenario]:
        return {scenario.name: scenario for scenario in scenarios(self.stage)}

    def rehearse(self, scenario: Scenario) -> Rehearsed:
        """Set a scenario up, play it undisturbed, unit by unit, and have it judged.

        Raises:
            CampaignError: it does not come to its end.
        """
        if scenario.since is None:
            start = Checkpoint(self.folder / "cloud", self.folder / "home", 0)
        else:
            start = self.ends[scenario.since]
        cloud, endpoint = self._cloud(start.cloud, scenario.name)
        home = self._home(start.home)
        Memory.of(home).learn(done=0)
        self._whole(endpoint, home, scenario.setup)
        # The person who plays begins at the first step; the daemon's memory goes on.
        Memory.of(home).learn(done=0)
        ask(cloud, {"do": "freeze"})
        checkpoints = [Checkpoint(cloud, home, 0)]
        boundaries: list[str] = []
        ended, judged = not scenario.play, {"complaints": [], "digest": {}}
        while not ended:
            last = checkpoints[-1]
            cloud, endpoint = self._cloud(last.cloud, scenario.name)
            home = self._home(last.home)
            answer = self._play(endpoint, home, scenario.play, units=1)
            if not answer or "error" in answer[0]:
                raise CampaignError(f"{scenario.name}, undisturbed: {_trace(answer)}")
            ended = answer[0]["ended"]
            boundaries += told(endpoint, "report", {})["seen"]
            if ended:
                judged = self._judged(endpoint, scenario, None)
            ask(cloud, {"do": "freeze"})
            checkpoints.append(Checkpoint(cloud, home, len(boundaries)))
        self.ends[scenario.name] = checkpoints[-1]
        return Rehearsed(
            scenario,
            tuple(boundaries),
            tuple(checkpoints),
            tuple(judged["complaints"]),
            judged["digest"],
        )

    def run(self, case: Case, rehearsed: Rehearsed) -> Outcome:
        """Kill, run again, judge."""
        began = time.monotonic()
        start = rehearsed.before(case.number)
        with self.copy_of(start) as (endpoint, home):
            told(endpoint, "plan", {"at": case.number - start.first, "after": case.after})
            # Runs that died are taken up in both of Dagster's ways, by turns.
            all_steps = (case.number + case.after) % 2 == 0
            steps = rehearsed.scenario.play
            answer = self._play(endpoint, home, steps, all_steps=all_steps)
            killed = told(endpoint, "report", {})["killed"]
            complaints = []
            if answer or killed is None:
                complaints.append(f"it was not killed: {_trace(answer) or killed}")
            again = self._play(endpoint, home, steps, all_steps=all_steps)
            if not again or not again[0].get("ended"):
                complaints.append(f"run again, it does not end: {_trace(again)}")
            judged = self._judged(endpoint, rehearsed.scenario, rehearsed.digest)
        return Outcome(
            case,
            killed or "",
            judged["lost"],
            judged["doubled"],
            (*complaints, *judged["complaints"]),
            time.monotonic() - began,
        )

    @contextmanager
    def copy_of(self, checkpoint: Checkpoint) -> Iterator[tuple[str, Path]]:
        """The endpoint of a copy of a checkpoint's cloud, and a copy of its home."""
        path = self._path("cloud")
        answer = ask(checkpoint.cloud, {"do": "copy", "path": str(path)}, first_only=True)[0]
        home = self._home(checkpoint.home)
        try:
            yield answer["endpoint"], home
        finally:
            os.kill(answer["pid"], signal.SIGKILL)
            shutil.rmtree(home)

    def judge(self, endpoint: str, scenario: Scenario) -> Json:
        """What the oracle says of the lake behind an endpoint."""
        return self._judged(endpoint, scenario, None)

    def _cloud(self, original: Path, name: str) -> tuple[Path, str]:
        path = self._path(name)
        answer = ask(original, {"do": "copy", "path": str(path)}, first_only=True)[0]
        return path, answer["endpoint"]

    def _home(self, original: Path) -> Path:
        home = self._path("home")
        shutil.copytree(original, home)
        (home / "scratch").mkdir(exist_ok=True)
        return home

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"

    def _whole(self, endpoint: str, home: Path, steps: Any) -> None:
        answer = self._play(endpoint, home, steps)
        if not answer or not answer[0].get("ended"):
            raise CampaignError(f"The setup does not end: {_trace(answer)}")

    def _play(self, endpoint: str, home: Path, steps: Any, **how: Any) -> list[Json]:
        return ask(
            self.folder / "daemon",
            {
                "do": "play",
                "endpoint": endpoint,
                "home": str(home),
                "scratch": str(home / "scratch"),
                "steps": list(steps),
                **{"all_steps": False, **how},
            },
        )

    def _judged(self, endpoint: str, scenario: Scenario, digest: Json | None) -> Json:
        answer = ask(
            self.folder / "daemon",
            {
                "do": "judge",
                "endpoint": endpoint,
                "expected": scenario.expected,
                "digest": digest,
            },
        )
        if not answer:
            raise CampaignError(f"The oracle came to no judgement of {scenario.name}.")
        return answer[0]


@contextmanager
def campaign() -> Iterator[Campaign]:
    """A campaign with nothing rehearsed yet; its processes and folder are gone at the end."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir=shared if shared.is_dir() else None))
    started: list[subprocess.Popen[bytes]] = []
    try:
        home = folder / "home"
        home.mkdir()
        shutil.copy(_CONFIGURATION, home / "dagster.yaml")
        for given in (
            ("cloud", str(folder / "cloud")),
            ("daemon", str(folder / "daemon"), str(home)),
        ):
            command = [sys.executable, "-m", "tests.replay.kill.serve", *given]
            started.append(subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL))
        for process, name in zip(started, ("cloud", "daemon"), strict=True):
            wait_for(folder / name, process)
        yield Campaign(folder, Stage.at(folder / "contracts"))
    finally:
        for process in started:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _trace(answer: list[Json]) -> str:
    return str(answer[0].get("trace", answer[0])) if answer else ""
