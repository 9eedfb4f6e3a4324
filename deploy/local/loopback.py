"""The server's calls to itself go over the same HTTP as everyone else's.

A job run or a state machine that reached into moto's back ends would pass by the one-request-at-a-
time rule that keeps them true (see `http.py`).
"""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
from botocore.config import Config

#: In the server's own environment, as `MOTO_PORT` is.
S3_ENDPOINT = "EMBEDDED_S3_ENDPOINT"

_LOCK = threading.Lock()
_CLIENTS: dict[tuple[str, str], Any] = {}


def endpoint() -> str:
    """Where this server answers. Known once it is bound."""
    return f"http://127.0.0.1:{os.environ['MOTO_PORT']}"


def s3_endpoint() -> str:
    """Where S3 answers: this server, unless there is an S3 server of its own behind it."""
    return os.environ.get(S3_ENDPOINT) or endpoint()


def environment(region: str) -> dict[str, str]:
    """What points an AWS client in a process of ours at this server."""
    return {
        "AWS_ENDPOINT_URL": endpoint(),
        "AWS_ENDPOINT_URL_S3": s3_endpoint(),
        "AWS_ACCESS_KEY_ID": "embedded",
        "AWS_SECRET_ACCESS_KEY": "embedded",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(service: str, region: str) -> Any:
    """A boto3 client of this server, made once for each service and region.

    It neither retries nor validates: an error is the caller's to see as AWS words it.
    """
    key = service, region
    with _LOCK:
        if key not in _CLIENTS:
            _CLIENTS[key] = boto3.session.Session().client(
                service,
                endpoint_url=s3_endpoint() if service == "s3" else endpoint(),
                region_name=region,
                aws_access_key_id="embedded",
                aws_secret_access_key="embedded",
                config=Config(
                    parameter_validation=False,
                    retries={"total_max_attempts": 1},
                    # A state machine may wait for another, or for a function.
                    read_timeout=900,
                    max_pool_connections=50,
                    proxies={},
                    s3={"addressing_style": "path"},
                ),
            )
        return _CLIENTS[key]
