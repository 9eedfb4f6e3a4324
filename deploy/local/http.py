"""The server's HTTP: connections that are kept, answers that are not delayed.

werkzeug's handler closes each connection after its answer and then waits 10 ms for stray bytes,
because it cannot tell where one request's body ends and the next request begins (werkzeug 3.1.9,
`serving.py`, `run_wsgi`). Ten thousand small files make some hundred thousand requests, so here the
body is read to its end first and the connection kept: a small PUT or GET takes less than half the
time.
"""

from __future__ import annotations

import io
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler

_BODILESS = frozenset({204, 304})


class KeepAliveHandler(MotoRequestHandler):
    """Serves the requests of one connection, one after another."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second would wait for the
    # client's delayed acknowledgement, 40 ms on Linux.
    disable_nagle_algorithm = True
    wbufsize = -1

    def run_wsgi(self) -> None:
        """Answer one request; `http.server` has read its line and headers."""
        self.environ = environ = self.make_environ()
        body = environ["wsgi.input"]
        if not environ.get("wsgi.input_terminated"):
            body = io.BytesIO(self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0)))
        else:
            body = io.BytesIO(body.read())
            environ["CONTENT_LENGTH"] = str(body.getbuffer().nbytes)
        environ["wsgi.input"] = body

        answer: dict[str, Any] = {}

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> None:
            answer["status"], answer["headers"] = status, headers

        try:
            pieces: Iterable[bytes] = self.server.app(environ, start_response)
            content = b"".join(pieces)
            status, headers = str(answer["status"]), answer["headers"]
        except Exception:  # noqa: BLE001 - the boundary of a request: the client gets a 500
            self.log_error("%s", traceback.format_exc().replace("%", "%%"))
            status, headers, content = "500 Internal Server Error", [], b""
        self._answer(status, headers, content)

    def _answer(self, status: str, headers: list[tuple[str, str]], content: bytes) -> None:
        code = int(status.split(None, 1)[0])
        self.send_response(code, status.partition(" ")[2])
        sized = False
        for name, value in headers:
            lowered = name.lower()
            if lowered in {"connection", "transfer-encoding"}:
                continue
            sized = sized or lowered == "content-length"
            self.send_header(name, value)
        if not sized and code not in _BODILESS:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and code not in _BODILESS:
            self.wfile.write(content)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Tell the client to send its body, at once: it waits a second for this otherwise."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: nobody reads a line for each of a hundred thousand requests."""


class OneRequestAtATime:
    """moto's dispatcher, letting each service work on one request at a time.

    moto's back ends check and then set without a lock, so that of two conditional writes, or two
    PUTs of one key, in two threads, both can win or one can vanish. Under the interpreter's own
    lock nothing was parallel anyway. Services that call others (Step Functions, Lambda, Batch)
    wait for them while they answer and so are not held here, nor is SQS, where a request may wait
    for a message (`deploy.local.sqs_waiting`).
    """

    SERIAL = frozenset({"s3", "dynamodb", "glue", "events", "logs", "sns"})

    def __init__(self, application: DomainDispatcherApplication) -> None:
        self._application = application
        self._locks = {service: threading.RLock() for service in self.SERIAL}
        #: Told of each request that was carried out, before it is answered and before the next.
        self.after: Callable[[str, Mapping[str, Any]], None] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        backend = self._application.get_application(environ)
        service = getattr(backend, "service", "")
        lock = self._locks.get(service)
        if lock is None:
            return backend(environ, start_response)
        after, answered = self.after, ""

        def noting(status: str, *more: Any) -> Any:
            nonlocal answered
            answered = status
            return start_response(status, *more)

        with lock:
            answer = backend(environ, noting)
            if after is not None and answered.startswith("200"):
                after(service, environ)
            return answer
