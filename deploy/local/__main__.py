"""`python -m deploy.local`: the embedded AWS in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.local.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="An AWS on loopback, until interrupted. Prints one line of JSON with its "
        "endpoint as soon as it answers. Everything is in memory, unless --durable is given.",
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
    parser.add_argument(
        "--durable",
        type=Path,
        default=None,
        metavar="DIR",
        help="keep objects, ledger and catalog in this folder; S3 answers at an endpoint of its "
        "own then, `s3_endpoint` on the line",
    )
    options = parser.parse_args()
    serve(
        port=options.port,
        parent_pid=options.parent_pid,
        glue_minute_seconds=options.glue_minute_seconds,
        durable=options.durable.resolve() if options.durable else None,
    )


if __name__ == "__main__":
    main()
