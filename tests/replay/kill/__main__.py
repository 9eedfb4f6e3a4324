"""`python -m tests.replay.kill`: the whole campaign, a sample of it, or single cases again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from tests.replay.kill.campaign import (
    Campaign,
    Case,
    Outcome,
    Rehearsed,
    by_turns,
    campaign,
    cases_of,
    new_kinds,
    one_of_each,
)


@click.command()
@click.option("--case", "names", multiple=True, metavar="NAME", help="Only this case; repeatable.")
@click.option("--scenario", "stories", multiple=True, help="Only this scenario; repeatable.")
@click.option("--sample", is_flag=True, help="One case for each operation of the scenarios.")
@click.option("--kinds", is_flag=True, help="Each kind of boundary once, and both its sides.")
@click.option("--list", "listing", is_flag=True, help="Only list the boundaries.")
@click.option("--minutes", type=float, help="Leave out what does not fit in so many; for CI.")
@click.option("--workers", type=click.IntRange(1), default=min(os.cpu_count() or 1, 8))
def main(
    names: tuple[str, ...],
    stories: tuple[str, ...],
    sample: bool,
    kinds: bool,
    listing: bool,
    minutes: float | None,
    workers: int,
) -> None:
    """Kill the path at every boundary, run it again, and have what became of it judged.

    The last line is a JSON object; the exit code is 1 where anything is wrong.
    """
    began = time.monotonic()
    # Ended from outside, it leaves neither processes nor files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        chosen = [Case.named(name) for name in names]
    except ValueError as problem:
        raise click.UsageError(str(problem)) from problem
    wanted = {*stories, *(case.scenario for case in chosen)}
    outcomes: list[Outcome] = []
    known: set[str] = set()
    sound = True
    with campaign() as kills, ThreadPoolExecutor(workers) as pool:
        if unknown := wanted - kills.scenarios.keys():
            raise click.UsageError(f"Unknown: {unknown}. Known: {sorted(kills.scenarios)}.")
        left = len(wanted or kills.scenarios)
        for rehearsed in _rehearsed(kills, wanted or set(kills.scenarios)):
            name = rehearsed.scenario.name
            sound = sound and not rehearsed.complaints
            for complaint in rehearsed.complaints:
                click.echo(f"  {name}, undisturbed: {complaint}")
            if listing:
                for number, boundary in enumerate(rehearsed.boundaries, 1):
                    click.echo(f"{name}/{number:03d}  {boundary}")
                continue
            cases = one_of_each(rehearsed) if sample else cases_of(rehearsed)
            if kinds:
                cases = new_kinds(rehearsed, known)
            if chosen:
                cases = [case for case in chosen if case.scenario == name]
                if missing := set(cases) - set(cases_of(rehearsed)):
                    raise click.UsageError(f"There is no {', '.join(map(str, missing))}.")
            until = None
            if minutes is not None:
                # An equal part for each scenario that is still to come.
                until = time.monotonic() + (began + 60 * minutes - time.monotonic()) / left
            left -= 1
            outcomes += _taken(kills, rehearsed, cases, pool, until)
    click.echo(summary(outcomes, time.monotonic() - began))
    wrong = any(outcome.complaints for outcome in outcomes) or not (outcomes or listing)
    sys.exit(0 if sound and not wrong else 1)


#: How often it is said how far a scenario is.
_TOLD_SECONDS = 30.0


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The last line."""
    return json.dumps(
        {
            "points": len(outcomes),
            "lost": sum(outcome.lost for outcome in outcomes),
            "doubled": sum(outcome.doubled for outcome in outcomes),
            "seconds": round(seconds, 1),
        }
    )


def _rehearsed(kills: Campaign, wanted: set[str]) -> Iterator[Rehearsed]:
    """The scenarios that are wanted, after those that they begin at the end of."""
    scenarios = kills.scenarios
    needed = set(wanted)
    for scenario in reversed(scenarios.values()):
        if scenario.name in needed and scenario.since is not None:
            needed.add(scenario.since)
    for scenario in scenarios.values():
        if scenario.name in needed:
            rehearsed = kills.rehearse(scenario)
            if scenario.name in wanted and scenario.play:
                yield rehearsed


def _taken(
    kills: Campaign,
    rehearsed: Rehearsed,
    cases: Sequence[Case],
    pool: ThreadPoolExecutor,
    until: float | None,
) -> list[Outcome]:
    """The outcomes of some cases of a scenario; those that went wrong are told at once.

    Args:
        until: When no other case is begun.
    """

    def outcome_of(case: Case) -> Outcome | None:
        in_time = until is None or time.monotonic() < until
        return kills.run(case, rehearsed) if in_time else None

    began = told = time.monotonic()
    outcomes = []
    for outcome in pool.map(outcome_of, by_turns(cases)):
        if outcome is None:
            continue
        outcomes.append(outcome)
        if time.monotonic() > told + _TOLD_SECONDS:
            told = time.monotonic()
            click.echo(f"  {rehearsed.scenario.name}: {len(outcomes)} killed so far", err=True)
        if outcome.complaints:
            click.echo(f"  {outcome.case}  {outcome.boundary}")
            for complaint in outcome.complaints:
                click.echo(f"      {complaint}")
    wrong = sum(bool(outcome.complaints) for outcome in outcomes)
    click.echo(
        f"{rehearsed.scenario.name}: {len(rehearsed.boundaries)} boundaries, {len(outcomes)} "
        f"killed, {wrong} wrong, {time.monotonic() - began:.0f} s"
        + (f"; no time for {missed}" if (missed := len(cases) - len(outcomes)) else "")
    )
    return outcomes


if __name__ == "__main__":
    main()
