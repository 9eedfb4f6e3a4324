"""What Python's collector of unreachable cycles does in a process of the platform: little.

Hardly anything that the platform makes is a cycle. Looking for some took a sixth of the time in
which its modules are imported, a seventh of that in which 200 contracts become definitions, and a
sixth of the CPU of 2,000 small files, which make some hundred thousand objects that stay until
their batch is published.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG_OBJECTS = 20_000


def collect_seldom() -> None:
    """Look whenever there are so many objects more, where Python looks at 700."""
    gc.set_threshold(_YOUNG_OBJECTS)


def keep_what_is_loaded() -> None:
    """Leave out what there is by now, which stays as long as the process: going over it costs each
    full collection 0.3 s."""
    gc.freeze()


@contextmanager
def not_collecting() -> Iterator[None]:
    """For as long as nothing is made that goes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
