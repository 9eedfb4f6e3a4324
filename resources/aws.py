"""AWS clients: one way of making them, so that every call is retried and timed out alike.

A service that fails is retried with back-off here, in the client, and is no business of whoever
calls it (DESIGN, invariant 9).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import boto3
from botocore.config import Config

from service_core.settings import Settings

#: Enough for the threads of the ledger and of a multipart upload together.
_CONNECTIONS = 32
_ATTEMPTS = 8


def client(settings: Settings, service: str, *, attempts: int = _ATTEMPTS) -> Any:
    """A boto3 client of one service, shared by the whole process and safe between threads.

    Credentials come from wherever boto3 finds them when the first one is made.

    Args:
        settings: Region and endpoint.
        service: Such as `s3`.
        attempts: How often a request is tried; 1 for one that must not be made twice unnoticed.
    """
    return _client(service, settings.region, settings.endpoint_url, attempts)


def clients(settings: Settings) -> Callable[[str], Any]:
    """`client` for these settings: what `deploy.bootstrap` and the resources are handed."""
    return partial(client, settings)


# Making a client takes some 100 ms the first time: a run's steps would spend more on that than on
# a small batch.
@lru_cache(maxsize=64)
def _client(service: str, region: str, endpoint_url: str | None, attempts: int) -> Any:
    # A session of its own: boto3's default one is not safe to make clients with in two threads.
    return boto3.session.Session().client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # The ledger writes a hundred items to a request: checking each of their attributes
            # against the service's model took a seventh of the client's time.
            parameter_validation=service != "dynamodb",
            # A bucket's own host name does not resolve to an endpoint of ours.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        ),
    )
