"""Reach: how the workers of a Spark get at the object store.

A client cannot be sent to them, and their environment is not the driver's; so what it is made of
goes along with each task, and each worker process makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from service_core.layout import Zone
from service_core.s3_store import Buckets, S3ObjectStore, split_uri

_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the buckets are, and how to get there.

    Attributes:
        buckets: Each zone's.
        region: The buckets'.
        endpoint_url: Where S3 answers; None in the cloud.
        keys: Access key, secret and session token, where the driver's environment names them;
            None where every machine has a role of its own, as on Glue.
    """

    buckets: tuple[tuple[Zone, str], ...]
    region: str
    endpoint_url: str | None = None
    keys: tuple[str, str, str | None] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, buckets: Buckets, environ: Mapping[str, str]) -> Reach:
        """As the driver's environment says."""
        access, secret = (
            environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        return cls(
            buckets=tuple((zone, buckets.bucket(zone)) for zone in Zone),
            region=region_of(environ),
            endpoint_url=s3_endpoint_of(environ),
            keys=(access, secret, environ.get("AWS_SESSION_TOKEN")) if access and secret else None,
        )

    def bucket(self, zone: Zone) -> str:
        """A zone's bucket."""
        return dict(self.buckets)[zone]

    def store(self) -> S3ObjectStore:
        """The zones' buckets."""
        return S3ObjectStore(s3_client(self.region, self.endpoint_url, self.keys), self)

    def open(self, uri: str) -> Any:
        """An object as a file that Arrow reads, by range; one per task, since credentials pass."""
        from pyarrow.fs import S3FileSystem

        keys = self.keys or _found_keys()
        given = dict(zip(("access_key", "secret_key", "session_token"), keys or (), strict=False))
        files = S3FileSystem(
            region=self.region,
            endpoint_override=self.endpoint_url,
            # Arrow's own limits, of 1 and 3 seconds, are shorter than S3's slower answers.
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_READ_SECONDS,
            **{name: value for name, value in given.items() if value},
        )
        return files.open_input_file("/".join(split_uri(uri)))


def region_of(environ: Mapping[str, str]) -> str:
    """The region that an environment names, else that of boto3's own configuration."""
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    import boto3

    return str(boto3.session.Session().region_name or "us-east-1")


def s3_endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Where S3 answers, by an environment; None in the cloud."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


@lru_cache(maxsize=4)
def s3_client(
    region: str, endpoint_url: str | None, keys: tuple[str, str, str | None] | None = None
) -> Any:
    """This process's S3 client."""
    import boto3
    from botocore.config import Config

    access, secret, token = keys or (None, None, None)
    return boto3.session.Session(access, secret, token).client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            # A bucket's own host name does not resolve to an endpoint of ours.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        ),
    )


def _found_keys() -> tuple[str, str, str | None] | None:
    """What boto3 finds: of the two ways to S3, it knows more places to look for credentials."""
    import boto3

    found = boto3.session.Session().get_credentials()
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    return (frozen.access_key, frozen.secret_key, frozen.token)
