"""`lakegate` as the tests call it: a process of its own, or in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dagster_project.cli import main

ROOT = Path(__file__).resolve().parents[1]


class CommandLine:
    """`lakegate` in a folder from which no platform runs, against the test's own AWS."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dagster_project.cli", *arguments],
            cwd=self._folder,
            env={
                **os.environ,
                "LAKEGATE_CONTRACTS": str(ROOT / "contracts"),
                "PYTHONPATH": str(ROOT),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command that waits for nobody, in this process: imports are most of one of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self._folder)
            patch.setenv("LAKEGATE_CONTRACTS", str(ROOT / "contracts"))
            done = CliRunner().invoke(main, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        returned, out, err = self.run(*arguments, "--json")
        assert returned == code, err
        return json.loads(out)
