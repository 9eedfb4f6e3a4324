"""An embedded AWS that can be copied with all that is in it, and kills its client at a boundary.

A copy is a fork: a lake is set up once, and each case starts from a copy of it with the very same
object versions. The server kills, because it alone sees every request: before it has looked at one
(nothing was applied), or after it has applied one and before it answers.
"""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from deploy.local.http import KeepAliveHandler, OneRequestAtATime
from deploy.local.server import HOST, MENDS
from tests.replay.kill.boundaries import boundary_of
from tests.replay.kill.control import CONTROL
from tests.replay.kill.forking import Json, Say, only_thread, serve_forks

_SERVICES = ("s3", "dynamodb", "glue", "events", "sns", "stepfunctions", "iam", "sts", "logs")

#: Every event that the bus has taken, in this cloud and in those that it is a copy of.
EVENTS: list[Json] = []


class Reaper:
    """A WSGI application before moto's: counts boundaries, and kills the client at one of them."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()
        self.client: int | None = None
        self.at: int | None = None
        self.after = False
        self.seen: list[str] = []
        self.killed: str | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read()
        if path.startswith(CONTROL):
            return self._control(path.removeprefix(CONTROL), body, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        headers = {
            name[5:].replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        boundary = boundary_of(
            environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers, body
        )
        if boundary is None or self.client is None:
            return self._application(environ, start_response)
        with self._lock:
            self.seen.append(str(boundary))
            mine = self.killed is None and len(self.seen) == self.at
            if mine:
                self.killed = str(boundary)
        if mine and not self.after:
            self._kill()
            start_response("503 Service Unavailable", [])
            return [b""]
        answer = list(self._application(environ, start_response))
        if boundary.operation == "PutEvents":
            EVENTS.extend(json.loads(body)["Entries"])
        if mine:
            self._kill()
        return answer

    def _kill(self) -> None:
        assert self.client is not None
        os.kill(self.client, signal.SIGKILL)

    def _control(self, what: str, body: bytes, start_response: Any) -> Iterable[bytes]:
        given = json.loads(body or b"{}")
        if what == "client":
            self.client = given["pid"]
        elif what == "plan":
            self.at, self.after = given["at"], given["after"]
        start_response("200 OK", [("Content-Type", "application/json")])
        report = {"seen": self.seen, "killed": self.killed, "events": EVENTS}
        return [json.dumps(report).encode()]


class Cloud:
    """One server, in a thread, until it is frozen; then what is in it can be copied."""

    def __init__(self) -> None:
        dispatcher = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer = make_server(
            HOST,
            0,
            Reaper(OneRequestAtATime(dispatcher)),
            threaded=True,
            request_handler=KeepAliveHandler,
        )
        os.environ["MOTO_PORT"] = str(self._server.port)
        self.endpoint = f"http://{HOST}:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def freeze(self) -> None:
        """Take no more requests; its clients must have ended."""
        self._server.shutdown()
        self._server.server_close()
        only_thread()


def become_cloud(request: Json, say: Say) -> None:
    """Serve what was in the process that forked; answers with the endpoint.

    Args:
        request: `path`: the socket by which this one is copied in its turn.
    """
    cloud = Cloud()
    say({"endpoint": cloud.endpoint, "pid": os.getpid()})
    serve_forks(Path(request["path"]), become_cloud, asked={"freeze": cloud.freeze})


def prepared_cloud() -> Any:
    """Import moto with its mends; nothing is served yet."""
    for mend in MENDS:
        mend()
    for service in _SERVICES:
        create_backend_app(service)
    return become_cloud
