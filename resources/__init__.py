"""Dagster resources: the services that the assets and sensors talk to."""
