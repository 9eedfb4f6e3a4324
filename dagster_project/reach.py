"""How a command reaches a platform: the one that `lakegate up` runs from this folder, else the AWS
that the environment names.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn

import click

from service_core.contract import ContractError, load_contracts
from service_core.contract.model import Contract
from service_core.ledger import Entry
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore
from service_core.settings import Settings, SettingsError
from service_core.telemetry import configure_logging

BAD_USAGE = 2
SYSTEM_FAILED = 1

_HEXADECIMAL_ID = re.compile(r"[0-9a-f]{32}\Z")


class CommandFailed(click.ClickException):
    """What went wrong, as a sentence and an exit code; no traceback."""

    def __init__(self, sentence: str, exit_code: int = BAD_USAGE) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, err=True)


def fail(sentence: str, exit_code: int = BAD_USAGE) -> NoReturn:
    """End the command with a sentence."""
    raise CommandFailed(sentence, exit_code)


@dataclass(frozen=True, slots=True)
class Reach:
    """A platform, as commands see it.

    Attributes:
        contracts: By data set.
    """

    settings: Settings
    contracts: Mapping[str, Contract]
    store: ObjectStore
    ledger: Ledger

    def contract(self, dataset: str) -> Contract:
        """The contract of a data set; ends the command where there is none."""
        if dataset not in self.contracts:
            known = ", ".join(sorted(self.contracts)) or "none"
            fail(f"No contract describes a data set {dataset!r}. Known: {known}.")
        return self.contracts[dataset]

    def dataset_of(self, key: str) -> Contract | None:
        """The contract whose landing prefix a key lies under."""
        under = [c for c in self.contracts.values() if key.startswith(c.landing.prefix)]
        return under[0] if under else None

    def entries(self, thing: str) -> list[Entry]:
        """The ledger's entries that a person means by an object id, a key or a URI; of a key, all
        versions that the ledger knows, oldest first."""
        if is_id(thing):
            return list(self.ledger.entries([thing]).values())
        key = self.key_of(thing)
        if (contract := self.dataset_of(key)) is None:
            return []
        from service_core.arrival import source_object_of
        from service_core.layout import Zone

        bucket, resume = self.store.bucket(Zone.RAW), None
        objects = []
        while True:
            page = self.store.list_versions(key, resume=resume)
            objects += [source_object_of(contract, bucket, o) for o in page.objects if o.key == key]
            resume = page.resume
            if resume is None or resume[0] != key:
                break
        known = self.ledger.entries(o.id for o in objects)
        return [known[o.id] for o in sorted(objects, key=lambda o: o.order) if o.id in known]

    def key_of(self, thing: str) -> str:
        """The key in a URI of the raw bucket, or the key itself; ends the command where the URI is
        of another bucket."""
        from service_core.layout import Zone
        from service_core.s3_store import split_uri

        if not thing.startswith(("s3://", "s3a://")):
            return thing
        try:
            bucket, key = split_uri(thing)
        except ValueError as problem:
            fail(str(problem))
        if bucket != self.store.bucket(Zone.RAW):
            fail(f"{thing} is not in the raw bucket {self.store.bucket(Zone.RAW)}.")
        return key

    def batch(self, batch_id: str) -> Manifest | None:
        """The manifest of a batch of any data set."""
        from service_core.replay.walk import batch_objects

        for dataset in self.contracts:
            if (manifest := batch_objects(self.store, dataset, batch_id)) is not None:
                return manifest
        return None


def is_id(thing: str) -> bool:
    """Whether that can be the id of a source object or of a batch."""
    return _HEXADECIMAL_ID.match(thing) is not None


def quiet() -> None:
    """Leave the terminal to the command's own output: the logs are for those who run a platform."""
    logging.disable(logging.ERROR)
    configure_logging(io.StringIO())


def settings_here() -> Settings:
    """What the environment says; ends the command where that cannot be used."""
    try:
        return Settings.from_environment(os.environ)
    except SettingsError as problem:
        fail(str(problem))


def reach() -> Reach:
    """The platform; ends the command where its contracts or settings cannot be used."""
    from dagster_project.up import running_platform
    from resources.ledger import LedgerResource
    from resources.object_store import ObjectStoreResource

    if (running := running_platform()) is not None:
        os.environ.update(running.environment)
    settings = settings_here()
    try:
        contracts = {c.dataset: c for c in load_contracts(settings.contracts)}
    except ContractError as problem:
        fail(str(problem))
    return Reach(
        settings,
        contracts,
        ObjectStoreResource.of(settings).store(),
        LedgerResource.of(settings).ledger(),
    )


_BY_HAND = (
    "Is the platform running (`lakegate up`), and does the environment name the right account? "
    "Run the command again when it is."
)


class Reaching(click.Command):
    """A command that talks to AWS: what fails of it is told in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        from resources.outages import ServiceFailedError, in_a_sentence

        try:
            with in_a_sentence(_BY_HAND):
                return super().invoke(ctx)
        except ServiceFailedError as failed:
            fail(f"AWS could not be asked: {failed}", SYSTEM_FAILED)
