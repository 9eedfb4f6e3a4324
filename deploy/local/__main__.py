"""`python -m deploy.local`: the embedded AWS in the foreground."""

from __future__ import annotations

import argparse

from deploy.local.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="An AWS in memory, on loopback, until interrupted. Prints one line of JSON "
        "with its endpoint as soon as it answers.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 (the default) for any free port")
    parser.add_argument(
        "--parent-pid",
        type=int,
        default=None,
        help="end as soon as this process is no longer the parent",
    )
    parser.add_argument(
        "--glue-minute-seconds",
        type=float,
        default=60.0,
        help="how long a minute of a Glue job's Timeout lasts (60, the default, is true)",
    )
    options = parser.parse_args()
    serve(
        port=options.port,
        parent_pid=options.parent_pid,
        glue_minute_seconds=options.glue_minute_seconds,
    )


if __name__ == "__main__":
    main()
