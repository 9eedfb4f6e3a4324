"""moto in server mode, on loopback only, with the mends that make a local run true.

Each mend is a module of its own with an `apply()`, listed in `MENDS`, and says what stock moto
does without it. Nothing outside `deploy.local` knows that there is a moto.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from deploy.local import (
    dynamodb_items,
    dynamodb_transactions,
    glue_catalog,
    glue_job_definitions,
    glue_runs,
    s3_copy,
    s3_listing,
    s3_paths,
    step_functions,
)
from deploy.local.http import KeepAliveHandler, OneRequestAtATime

HOST = "127.0.0.1"
MENDS: tuple[Callable[[], None], ...] = (
    glue_catalog.apply,
    glue_job_definitions.apply,
    glue_runs.apply,
    dynamodb_items.apply,
    dynamodb_transactions.apply,
    s3_copy.apply,
    s3_listing.apply,
    s3_paths.apply,
    step_functions.apply,
)

_PARENT_POLL_SECONDS = 0.25


def serve(*, port: int, parent_pid: int | None = None, glue_minute_seconds: float = 60.0) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent has gone.

    Prints `{"endpoint": "http://127.0.0.1:PORT"}` on a line of its own once it answers.

    Args:
        port: 0 for any free port.
        parent_pid: End as soon as this process is not the parent any more.
        glue_minute_seconds: How long a minute of a Glue job's `Timeout` lasts.
    """
    glue_runs.set_minute(glue_minute_seconds)
    for mend in MENDS:
        mend()
    server = _bind(port)
    # moto's Step Functions call the other services at http://localhost:$MOTO_PORT.
    os.environ["MOTO_PORT"] = str(server.port)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    if parent_pid is not None:
        threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    print(json.dumps({"endpoint": f"http://{HOST}:{server.port}"}), flush=True)
    # Everything is kept in memory on purpose, so a full collection walks all of it to find nothing.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    server.serve_forever()


def _bind(port: int) -> BaseWSGIServer:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            sys.exit(
                f"Port {port} of {HOST} cannot be had ({error.strerror}). "
                "Stop what listens there, or choose another with --port."
            )
        listener.listen(128)
        application = OneRequestAtATime(DomainDispatcherApplication(create_backend_app))
        # The server works on a duplicate of the descriptor.
        return make_server(
            HOST,
            listener.getsockname()[1],
            application,
            threaded=True,
            request_handler=KeepAliveHandler,
            fd=listener.fileno(),
        )


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    # Taking everything in memory apart first would take seconds, and leave no more behind.
    os._exit(0)


def _end_with(parent_pid: int) -> None:
    """Ask rather than wait for a pipe to close: a parent's forks would keep the pipe open."""
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(0)
