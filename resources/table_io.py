"""How published tables reach S3: as few round trips as each kind of file allows.

Iceberg's own files (metadata, manifest lists, manifests) are small and are never written twice
under one name, so each is one request to write, one to read, and none to read again. PyIceberg's
own access asks for the size before every read and looks for a file before every write.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from io import BytesIO
from typing import Any

from botocore.exceptions import ClientError
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import Properties

#: How the names of notes on snapshots that a table has let go of end.
PARTED = ".parted.json"
_ONCE_WRITTEN = (".avro", ".metadata.json", PARTED)
_REMEMBERED_BYTES = 64 * 1024**2


class _Memory:
    """Files of the last few commits, up to a number of bytes; the oldest go first."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, location: str) -> bytes | None:
        with self._lock:
            return self._files.get(location)

    def put(self, location: str, body: bytes) -> None:
        with self._lock:
            if location in self._files:
                return
            self._files[location] = body
            self._size += len(body)
            while self._size > _REMEMBERED_BYTES and self._files:
                _, forgotten = self._files.popitem(last=False)
                self._size -= len(forgotten)

    def forget(self, location: str) -> None:
        with self._lock:
            self._size -= len(self._files.pop(location, b""))


class _WholeFile(InputFile, OutputFile):
    """A small file that is read and written whole."""

    def __init__(self, location: str, s3: Any, memory: _Memory) -> None:
        super().__init__(location)
        self._bucket, self._key = location.split("://", 1)[1].split("/", 1)
        self._s3 = s3
        self._memory = memory

    def __len__(self) -> int:
        return len(self._read())

    def exists(self) -> bool:
        # PyIceberg asks before it writes a name that holds a random id.
        return self._memory.get(self.location) is not None

    def open(self, seekable: bool = True) -> BytesIO:
        return BytesIO(self._read())

    def to_input_file(self) -> InputFile:
        return self

    def create(self, overwrite: bool = False) -> BytesIO:
        return _Upload(self._write)

    def _read(self) -> bytes:
        body = self._memory.get(self.location)
        if body is None:
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=self._key)["Body"].read()
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    raise FileNotFoundError(f"{self.location} is not there.") from error
                raise
            self._memory.put(self.location, body)
        return body

    def _write(self, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body)
        self._memory.put(self.location, body)


class _Upload(BytesIO):
    """Goes up when it is closed, unless it is closed by an error."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self._write = write
        self._spoilt = False

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._spoilt = kind is not None
        super().__exit__(kind, error, trace)

    def close(self) -> None:
        if not self.closed and not self._spoilt:
            self._write(self.getvalue())
        super().close()


class TableFileIO(PyArrowFileIO):
    """PyIceberg's access to S3: Iceberg's own files whole, Parquet files by Arrow.

    Args:
        properties: `s3.endpoint`, `s3.region`, and `s3.access-key-id`, `s3.secret-access-key` and
            `s3.session-token` where Arrow is not to find credentials by itself;
            `s3.connect-timeout` and `s3.request-timeout`, in seconds; `s3.attempts`.
        s3: A boto3 client.
    """

    def __init__(self, properties: Properties, s3: Any) -> None:
        super().__init__(properties)
        self._s3 = s3
        self._memory = _Memory()

    def new_input(self, location: str) -> Any:
        if location.endswith(_ONCE_WRITTEN):
            return _WholeFile(location, self._s3, self._memory)
        return super().new_input(location)

    def new_output(self, location: str) -> Any:
        if location.endswith(_ONCE_WRITTEN):
            return _WholeFile(location, self._s3, self._memory)
        return super().new_output(location)

    def delete(self, location: Any) -> None:
        uri = location if isinstance(location, str) else location.location
        bucket, key = uri.split("://", 1)[1].split("/", 1)
        # Arrow would look for the folder afterwards, and put a marker where it finds none.
        self._s3.delete_object(Bucket=bucket, Key=key)
        self._memory.forget(uri)

    def listed(self, folder: str) -> list[str]:
        """The files under a folder."""
        bucket, prefix = folder.split("://", 1)[1].split("/", 1)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [f"s3://{bucket}/{one['Key']}" for page in pages for one in page.get("Contents", ())]

    def file_system(self, location: str) -> tuple[FileSystem, str]:
        """Arrow's file system for a location, and the location's path in it."""
        scheme, host, path = self.parse_location(location)
        return self.fs_by_scheme(scheme, host), path

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        return S3FileSystem(
            endpoint_override=self.properties.get("s3.endpoint"),
            region=self.properties.get("s3.region"),
            access_key=self.properties.get("s3.access-key-id"),
            secret_key=self.properties.get("s3.secret-access-key"),
            session_token=self.properties.get("s3.session-token"),
            # Arrow's own limits, of 1 and 3 seconds, are shorter than S3's slower answers.
            connect_timeout=float(self.properties["s3.connect-timeout"]),
            request_timeout=float(self.properties["s3.request-timeout"]),
            retry_strategy=AwsStandardS3RetryStrategy(int(self.properties["s3.attempts"])),
            # One request for a file that fits in one, in place of a multipart upload's three.
            allow_delayed_open=True,
        )
