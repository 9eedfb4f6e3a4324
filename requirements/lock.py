"""Writes lock.txt and spark.txt from pyproject.toml. Run by `make lock`.

What stands in a file already is kept where it still satisfies pyproject.toml, so that locking
changes only what has to change; remove a line to have it resolved anew. No file names a package
index: that is the installing machine's business.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMON = ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]


def resolve(output: str, *arguments: str, leaving_out: frozenset[str] = frozenset()) -> list[str]:
    """The pinned lines of `requirements/<output>`, written there too under a header."""
    command = ["uv", "pip", "compile", "pyproject.toml", *arguments]
    target = ROOT / "requirements" / output
    subprocess.run(
        [sys.executable, "-m", *command, *COMMON, "--python", sys.executable, "-o", str(target)],
        cwd=ROOT,
        check=True,
    )
    pins = [
        line
        for line in target.read_text().splitlines()
        if line and not line.startswith("#") and line not in leaving_out
    ]
    header = f"# Made by `make lock`: {' '.join(command)}\n"
    target.write_text(header + "\n".join(pins) + "\n")
    return pins


if __name__ == "__main__":
    base = resolve("lock.txt", "requirements/build.in", "--extra", "local", "--extra", "dev")
    # Spark comes on top of lock.txt, so that only what it adds is named. What is in java.txt is
    # chosen by hand: it is not there for every machine.
    java = (ROOT / "requirements" / "java.txt").read_text().splitlines()
    by_hand = {line.partition(";")[0].strip() for line in java if not line.startswith("#")}
    resolve(
        "spark.txt",
        *("-c", "requirements/lock.txt", "-c", "requirements/java.txt", "--extra", "spark"),
        leaving_out=frozenset(base) | by_hand,
    )
