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
from pathlib import Path
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
    loopback,
    s3_copy,
    s3_listing,
    s3_paths,
    sqs_waiting,
    step_functions,
)
from deploy.local.durable import Durable
from deploy.local.durable_folder import DurableFolderError
from deploy.local.http import KeepAliveHandler, OneRequestAtATime
from deploy.local.kept_state import KeptStateError
from deploy.local.seaweed import SeaweedError, SeaweedS3

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
    sqs_waiting.apply,
    step_functions.apply,
)

_PARENT_POLL_SECONDS = 0.25


def serve(
    *,
    port: int,
    parent_pid: int | None = None,
    glue_minute_seconds: float = 60.0,
    durable: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent has gone.

    Prints `{"endpoint": "http://127.0.0.1:PORT"}` on a line of its own once it answers, with an
    `s3_endpoint` where S3 answers somewhere else.

    Args:
        port: 0 for any free port.
        parent_pid: End as soon as this process is not the parent any more.
        glue_minute_seconds: How long a minute of a Glue job's `Timeout` lasts.
        durable: The folder to keep objects, ledger and catalog in; None for memory alone.
    """
    glue_runs.set_minute(glue_minute_seconds)
    for mend in MENDS:
        mend()
    if parent_pid is not None:
        threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    application = OneRequestAtATime(DomainDispatcherApplication(create_backend_app))
    server = _bind(port, application)
    # moto's Step Functions call the other services at http://localhost:$MOTO_PORT.
    os.environ["MOTO_PORT"] = str(server.port)
    # Everything is kept in memory on purpose, so a full collection walks all of it to find nothing.
    gc.set_threshold(100_000, 50, 1_000)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    said = {"endpoint": loopback.endpoint()}
    if durable is not None:
        said["s3_endpoint"] = _bring_back(durable, application)
    print(json.dumps(said), flush=True)
    gc.freeze()
    server.serve_forever()


def _bring_back(folder: Path, application: OneRequestAtATime) -> str:
    """Put everything in the folder back, and keep what comes; returns where S3 answers."""
    try:
        durable = Durable(folder)
        durable.state.restore(application)
    except (DurableFolderError, KeptStateError, SeaweedError) as problem:
        sys.exit(str(problem))
    application.after = durable.state.after
    os.environ[loopback.S3_ENDPOINT] = durable.s3.endpoint
    threading.Thread(target=_end_without, args=(durable.s3,), daemon=True).start()
    return durable.s3.endpoint


def _bind(port: int, application: OneRequestAtATime) -> BaseWSGIServer:
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


def _end_without(s3: SeaweedS3) -> None:
    s3.wait()
    sys.stderr.write("The S3 server (SeaweedFS) has ended, and the embedded AWS ends with it.\n")
    sys.stderr.flush()
    os._exit(1)
