"""JSON paths of columns: `$.address.city`, `$['a key']`, `$.items[0].id`; nothing beyond.

A path names exactly one value of a document, which is why wildcards, slices and filters are none.
"""

from __future__ import annotations

import re

_STEP = re.compile(
    r"\.(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|\['(?P<single>(?:[^'\\]|\\['\\])+)'\]"
    r'|\["(?P<double>(?:[^"\\]|\\["\\])+)"\]'
    r"|\[(?P<index>0|[1-9][0-9]{0,5})\]"
)


def parse_json_path(path: str) -> tuple[str | int, ...] | None:
    """The steps of a path, keys as text and array indexes as numbers; None where it is none."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            return None
        position = match.end()
        if match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            key = match["name"] or match["single"] or match["double"]
            steps.append(re.sub(r"\\(['\"\\])", r"\1", key))
    return tuple(steps) or None
