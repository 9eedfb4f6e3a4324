"""The zones' buckets as a Dagster resource."""

from __future__ import annotations

from pathlib import Path

from resources.quick_reads import QuickReads
from resources.settings import SettingsResource
from service_core.s3_store import S3ObjectStore


class ObjectStoreResource(SettingsResource):
    """The zones' buckets: `ObjectStoreResource.of(settings)`."""

    def store(self) -> S3ObjectStore:
        """The store itself."""
        # boto3 takes a quarter of a second to import; a code location loads without it.
        from resources.aws import client

        settings = self.settings()
        s3 = client(settings, "s3")
        return S3ObjectStore(s3, settings, QuickReads(s3, settings).read)

    def scratch(self) -> Path | None:
        """The folder for files in hand; None for the system's own."""
        return self.settings().scratch
