"""A proxy on loopback in front of an AWS that fails calls as a plan has it.

It sits on the wire, because not every client of ours is botocore's: Arrow reads the tables' data
files with a client of its own.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.faults.answers import asked_in_part, failure, stale
from tests.faults.plan import Call, Kind, Plan, no_faults

#: Longer than any client of the tests waits for an answer.
_HOLD_SECONDS = 90.0
_REFUSALS = frozenset({Kind.THROTTLED, Kind.ERROR_500, Kind.ERROR_503, Kind.CONFLICT})


class FaultProxy:
    """Forwards to an endpoint, as `plan` allows.

    Args:
        upstream: Such as `http://127.0.0.1:5000`.
    """

    def __init__(self, upstream: str) -> None:
        self.plan = no_faults()
        server = _Server(("127.0.0.1", 0), _Handler)
        server.proxy = self
        server.upstream = urlsplit(upstream).netloc
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def endpoint(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}"

    @contextmanager
    def failing(self, plan: Plan) -> Iterator[Plan]:
        """Calls fail as the plan has it for as long as the block lasts."""
        before, self.plan = self.plan, plan
        try:
            yield plan
        finally:
            self.plan = before

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: FaultProxy
    upstream: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is what half of the faults come to.
        pass


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection, one after another."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    _upstream: http.client.HTTPConnection | None = None

    def _serve(self) -> None:
        body = self._body()
        call = self._call()
        fate = self.server.proxy.plan.fate(call)
        if fate in _REFUSALS:
            assert fate is not None
            status, kind, text = failure(fate, call)
            self._answer(status, [("Content-Type", kind)], text)
        elif fate is Kind.RESET:
            self._reset()
        elif fate is Kind.TIMEOUT_BEFORE:
            self._hold()
        elif fate is Kind.PARTIAL and (part := asked_in_part(call, body)):
            asked, more = part
            status, headers, content = self._forward(asked)
            content = json.dumps({**json.loads(content), **more}).encode()
            headers = [(n, v) for n, v in headers if n.lower() != "x-amz-crc32"]
            self._answer(status, headers, content)
        else:
            self._answered(fate, *self._forward(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _answered(
        self, fate: Kind | None, status: int, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        if fate is Kind.RESET_AFTER:
            self._reset()
        elif fate is Kind.TIMEOUT_AFTER:
            self._hold()
        elif fate is Kind.TRUNCATED_BODY and len(content) > 1:
            self._head(status, headers, len(content))
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif fate is Kind.SLOW_BODY and content:
            self._head(status, headers, len(content))
            if self.command != "HEAD":
                step = max(len(content) // 4, 1)
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    time.sleep(0.05)
        elif fate is Kind.STALE_LISTING and status == 200:
            self._answer(status, headers, stale(content, newest=2))
        else:
            self._answer(status, headers, content)

    # --- The wire --------------------------------------------------------------------------------

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _call(self) -> Call:
        if target := self.headers.get("X-Amz-Target"):
            family, _, operation = target.partition(".")
            services = {"DynamoDB": "dynamodb", "AWSGlue": "glue", "AWSEvents": "events"}
            return Call(services.get(family.split("_")[0], family.lower()), operation)
        scope = self.headers.get("Authorization", "").partition("Credential=")[2].split("/")
        service = scope[3] if len(scope) > 4 else "s3"
        if service != "s3":
            return Call(service, self.command)
        arrows = "aws-sdk-cpp" in self.headers.get("User-Agent", "")
        return Call(service, f"{'Arrow' if arrows else ''}{self._s3_operation()}")

    def _s3_operation(self) -> str:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        has_key = "/" in parts.path.strip("/")
        if self.command == "GET" and not has_key:
            return "ListObjectVersions" if "versions" in query else "ListObjectsV2"
        if self.command == "PUT" and "x-amz-copy-source" in self.headers:
            return "CopyObject"
        if self.command == "POST":
            return "DeleteObjects" if "delete" in query else "Upload"
        return f"{self.command.capitalize()}{'Object' if has_key else 'Bucket'}"

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        skipped = {"connection", "transfer-encoding", "content-length", "expect"}
        headers = [(n, v) for n, v in self.headers.items() if n.lower() not in skipped]
        while True:
            fresh = self._upstream is None
            connection = self._upstream or http.client.HTTPConnection(
                self.server.upstream, timeout=_HOLD_SECONDS
            )
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in headers:
                    connection.putheader(name, value)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
            except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
                # The server has closed a connection that was kept; it has read nothing of this.
                connection.close()
                self._upstream = None
                if fresh:
                    raise
                continue
            self._upstream = connection
            return answer.status, answer.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        length = len(content)
        if self.command == "HEAD":
            length = int(next((v for n, v in headers if n.lower() == "content-length"), "0"))
        self._head(status, headers, length)
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(content)

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closed at once and not when the last of the files made of it is: a reset, and no end.
        socket.close(self.connection.detach())

    def _hold(self) -> None:
        """Say nothing until the client gives up."""
        self.close_connection = True
        select.select([self.connection], [], [], _HOLD_SECONDS)

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass
