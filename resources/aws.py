"""AWS clients: one way of making them, so that every call is retried and timed out alike.

A service that fails is retried with back-off here, in the client, and is no business of whoever
calls it (DESIGN, invariant 9).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from resources.dynamodb_wire import send_as_json
from resources.outages import name_the_service
from resources.version_listing import read_pages_quickly
from service_core.settings import Settings

#: Enough for the threads of the ledger and of a multipart upload together.
_CONNECTIONS = 32


def client(settings: Settings, service: str, *, attempts: int | None = None) -> Any:
    """A boto3 client of one service, shared by the whole process and safe between threads.

    Credentials come from wherever boto3 finds them when the first one is made.

    Args:
        settings: Region and endpoint, and for how long a call is tried.
        service: Such as `s3`.
        attempts: How often a request is tried; 1 for one that must not be made twice unnoticed.
            None for the settings' own number.
    """
    return _client(
        service,
        settings.region,
        settings.endpoint_of(service),
        settings.aws_attempts if attempts is None else attempts,
        settings.aws_connect_seconds,
        settings.aws_read_seconds,
    )


def clients(settings: Settings) -> Callable[[str], Any]:
    """`client` for these settings: what `deploy.bootstrap` and the resources are handed."""
    return partial(client, settings)


# Making a client takes some 100 ms the first time: a run's steps would spend more on that than on
# a small batch.
@lru_cache(maxsize=64)
def _client(
    service: str,
    region: str,
    endpoint_url: str | None,
    attempts: int,
    connect_seconds: float,
    read_seconds: float,
) -> Any:
    # A session of its own: boto3's default one is not safe to make clients with in two threads.
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    made = boto3.session.Session(botocore_session=core).client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            max_pool_connections=_CONNECTIONS,
            # Standard mode waits between tries, twice as long each time, up to 20 s, and for a
            # random share of it; it also stops trying where most calls of the client fail.
            retries={"mode": "standard", "total_max_attempts": attempts},
            # The ledger writes a hundred items to a request: checking each of their attributes
            # against the service's model took a seventh of the client's time.
            parameter_validation=service != "dynamodb",
            # A bucket's own host name does not resolve to an endpoint of ours.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        ),
    )
    name_the_service(made)
    if service == "dynamodb":
        send_as_json(made)
    elif service == "s3":
        read_pages_quickly(made, _moment)
    return made


def _moment(told: Any) -> datetime:
    """A time in an answer. botocore guesses at the form of each, which took half of the time that
    a page of 1,000 versions takes."""
    if isinstance(told, str) and told.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(told)
    moment: datetime = parse_timestamp(told)
    return moment
