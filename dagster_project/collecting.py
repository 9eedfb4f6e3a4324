"""What Python's collector of unreachable cycles does in a process of the platform: little.

Hardly anything that the platform makes is a cycle, while a batch of small files makes some hundred
thousand objects that stay until it is published. By its own settings the collector went over them,
and over everything loaded, 1,400 times for 2,000 files, which took a sixth of their CPU.
"""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 20_000


def collect_seldom() -> None:
    """Leave out what is loaded by now, which stays as long as the process: going over it costs each
    full collection 0.3 s. Look at the rest whenever there are so many objects more."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
