"""`python -m tests.replay.kill.serve WHAT SOCKET [HOME]`: what all processes are copied from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from tests.replay.kill.forking import die_with_parent, serve_forks


def main(what: str, path: str, *home: str) -> NoReturn:
    """Import everything, then serve copies of that on a socket."""
    die_with_parent()
    if what == "cloud":
        from tests.replay.kill.cloud import prepared_cloud

        serve_forks(Path(path), prepared_cloud())
    else:
        from tests.replay.kill.daemon import prepared_daemon

        serve_forks(Path(path), prepared_daemon(Path(home[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
