"""Lakes behind a proxy that fails their calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_project.session import Session, private_instance
from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from service_core.contract.model import Contract
from service_core.settings import Settings
from tests.faults.house import House, direct, quick_waits
from tests.faults.proxy import FaultProxy
from tests.pipeline.conftest import orders_contract

__all__ = ["orders_contract"]

_LAKES = iter(range(1, 1_000_000))


@pytest.fixture(scope="session")
def proxy(embedded_aws: EmbeddedAws) -> Iterator[FaultProxy]:
    with FaultProxy(embedded_aws.endpoint) as proxy:
        yield proxy


@pytest.fixture
def make_house(
    embedded_aws: EmbeddedAws,
    proxy: FaultProxy,
    orders_contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., House]]:
    """`make_house(attempts=4)`: a new, empty lake behind the proxy."""
    instances = []
    aws = direct(embedded_aws.endpoint)

    def make(attempts: int = 4, read_seconds: float = 2.0, **landing: Any) -> House:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("LAKEGATE_NAME_PREFIX", f"f{next(_LAKES)}")
        monkeypatch.setenv("LAKEGATE_SCRATCH", str(tmp_path / "scratch"))
        monkeypatch.setenv("LAKEGATE_AWS_ATTEMPTS", str(attempts))
        monkeypatch.setenv("LAKEGATE_AWS_READ_SECONDS", str(read_seconds))
        settings = Settings.from_environment(os.environ)
        bootstrap(settings, aws)
        contract = replace(orders_contract, landing=replace(orders_contract.landing, **landing))
        instance = private_instance()
        instances.append(instance)
        return House(Session([contract], settings, instance), contract, proxy, aws)

    with quick_waits():
        yield make
    for instance in instances:
        instance.dispose()
