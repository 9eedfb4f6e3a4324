"""Small source objects, each read whole by one request that costs little beside its answer.

What boto3 does about a request takes 1.3 ms of CPU, which for a small file was more than all that
is done with its rows. What is here either gives exactly the version that was asked for, whole, or
gives up at the first difficulty, without a second try and without a word: then boto3 asks again,
and its retries and its errors are the ones that count.
"""

from __future__ import annotations

from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

from service_core.settings import Settings
from service_core.source_object import SourceObject

if TYPE_CHECKING:
    from obstore.store import S3Store


class QuickReads:
    """Reads small source objects; see `service_core.s3_store.S3ObjectStore`.

    Args:
        client: The boto3 S3 client whose endpoint and region are used.
        settings: For how long a connection and an answer are waited for.

    Attributes:
        given_up: Whether this way has been found to be none. Where a service is in trouble, or
            cannot be reached like this at all, no other object needs to find that out.
    """

    def __init__(self, client: Any, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._stores: dict[str, S3Store] = {}
        self._making = Lock()
        self.given_up = False

    def read(self, source_object: SourceObject) -> bytes | None:
        """The bytes of exactly that version, or None where they were not to be had at once."""
        if self.given_up or not _is_plain(source_object.key):
            return None
        from obstore.exceptions import BaseError, NotFoundError, PreconditionError

        try:
            store = self._store(source_object.bucket)
            answer = store.get(source_object.key, options=_exactly(source_object))
            read = answer.bytes().to_bytes()
        except (NotFoundError, PreconditionError):
            return None
        except (BaseError, OSError, ValueError):
            self.given_up = True
            return None
        return read if len(read) == source_object.size else None

    def _store(self, bucket: str) -> S3Store:
        with self._making:
            if bucket not in self._stores:
                self._stores[bucket] = _store_of(self._client, self._settings, bucket)
            return self._stores[bucket]


def _is_plain(key: str) -> bool:
    """Whether a key is taken as it is. Others, such as `a//b`, would be put in order first."""
    return (
        key.isascii()
        and key.isprintable()
        and all(part not in ("", ".", "..") for part in key.split("/"))
    )


def _exactly(source_object: SourceObject) -> Any:
    asked = {"version": source_object.version_id, "if_match": source_object.if_match}
    return {name: value for name, value in asked.items() if value is not None}


def _store_of(client: Any, settings: Settings, bucket: str) -> S3Store:
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    endpoint = client.meta.endpoint_url
    return S3Store(
        bucket,
        # Under this name, because that is the one environment variable that would overrule it.
        config={"aws_endpoint_url_s3": endpoint, "region": client.meta.region_name},
        virtual_hosted_style_request=False,
        skip_signature=False,
        credential_provider=Boto3CredentialProvider(boto3.session.Session()),
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=settings.aws_connect_seconds),
            "timeout": timedelta(seconds=settings.aws_read_seconds),
        },
        retry_config={"max_retries": 0},
    )
