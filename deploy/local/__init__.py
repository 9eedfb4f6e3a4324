"""The AWS that runs on a developer's machine: moto in server mode, mended where it is untrue."""

from deploy.local.embedded import EmbeddedAws, EmbeddedAwsError

__all__ = ["EmbeddedAws", "EmbeddedAwsError"]
