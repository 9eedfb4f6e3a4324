"""`make` is the one way in: it must say what it can do and what it lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


#: As on a machine that is set up, but for Spark; whatever is installed where the tests run.
AS_BEFORE_SPARK = (
    "--dry-run",
    "--assume-old=.venv/.installed",
    "--what-if=requirements/spark.txt",
)


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # `make test` runs these tests, and its own flags are not meant for the make inside.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_make_alone_lists_what_there_is() -> None:
    done = make()

    assert done.returncode == 0
    listed = re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE)
    assert {"demo", "test", "lint", "bench", "screenshots", "clean", "help"} <= set(listed)


def test_without_python_3_11_a_sentence_says_so(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    (clone / "requirements").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    for path in (ROOT / "requirements").glob("*.txt"):
        shutil.copy(path, clone / "requirements")

    done = make("demo", "PYTHON=", cwd=clone)

    assert done.returncode != 0
    assert "Python 3.11 was not found" in done.stderr
    assert "make demo PYTHON=" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("once", "expected"), [("ONCE=1", True), ("ONCE=0", False), ("ONCE=", False)]
)
def test_once_is_passed_on_only_when_it_is_asked_for(once: str, expected: bool) -> None:
    done = make("--dry-run", "--assume-old=.venv/.installed", "demo", once)

    command = next(line for line in done.stdout.splitlines() if "lakegate demo" in line)
    assert ("--once" in command) is expected


def test_an_engine_is_passed_on_and_brings_what_it_needs() -> None:
    done = make(*AS_BEFORE_SPARK, "demo", "ENGINE=spark")

    assert "lakegate demo" in done.stdout
    assert "--engine spark" in done.stdout
    installed = done.stdout.index("requirements/spark.txt")
    assert installed < done.stdout.index("requirements/java.txt") < done.stdout.index("--engine")


def test_the_demo_of_itself_needs_neither_spark_nor_java() -> None:
    done = make("--dry-run", "--assume-old=.venv/.installed", "demo")

    assert "lakegate demo" in done.stdout
    assert "--engine" not in done.stdout
    assert "requirements/spark.txt" not in done.stdout
    assert "requirements/java.txt" not in done.stdout


def test_the_tests_provide_for_spark_and_java_by_themselves() -> None:
    done = make(*AS_BEFORE_SPARK, "test")

    commands = done.stdout
    assert "--no-deps -r requirements/spark.txt" in commands
    assert "--no-deps --no-build-isolation -r requirements/java.txt" in commands
    assert commands.index("requirements/java.txt") < commands.index("-m mypy")
    assert commands.index("-m mypy") < commands.index("-m pytest")


@pytest.mark.parametrize(
    ("failing", "fails"), [("", False), ("test-kill", True), ("test-soak", True), ("test", True)]
)
def test_ci_runs_what_everyone_runs(tmp_path: Path, failing: str, fails: bool) -> None:
    """Everyone's tests come last, whatever the long ones came to; none may fail unnoticed."""
    fakes = {
        "make": f'echo "make $1"; [ "$1" != "{failing}" ]',
        "chromium": "",
    }
    for name, does in fakes.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tmp_path / name).chmod(0o755)

    done = subprocess.run(
        [ROOT / ".ci" / "run"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.splitlines() == ["make test-kill", "make test-soak", "make test"]
    assert (done.returncode != 0) is fails
