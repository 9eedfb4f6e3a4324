"""No arrival is lost and none is doubled on an S3 that is not moto's."""

# ruff: noqa: F403
from tests.pipeline.test_arrivals import *
