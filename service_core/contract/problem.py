"""Problems of contract files: each names its file, its line, and what to do, in one sentence.

All problems of a file are found before any is reported, so that one round of mending is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a contract file.

    Attributes:
        path: The file.
        line: The line, from 1.
        sentence: What is wrong, what was expected, and what to do.
    """

    path: Path
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


class ContractError(Exception):
    """One or more contract files cannot be used.

    Attributes:
        problems: All that was found, in the order of files and lines.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects the problems of one file while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, sentence: str) -> None:
        """Record a problem; the same one twice counts once."""
        self._found[Problem(self.path, max(line, 1), sentence)] = None

    def sorted(self) -> list[Problem]:
        """All problems, by line."""
        return sorted(self._found, key=lambda problem: problem.line)


def shown(text: object, limit: int = 60) -> str:
    """A value as a message shows it: on one line, in backticks, cut where it is long."""
    plain = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in str(text)
    )
    return f"`{plain if len(plain) <= limit else plain[: limit - 1] + '…'}`"


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`, for a message."""
    listed = [shown(word) for word in words]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"


def ended(sentence: str) -> str:
    """A sentence with its full stop, where it has no mark of its own."""
    return sentence if sentence.endswith((".", "?", "!")) else sentence + "."


def suggestion(word: str, known: Iterable[str]) -> str:
    """` Did you mean `x`?` where a known word is close, else nothing."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {shown(by_lower[close[0]])}?" if close else ""
