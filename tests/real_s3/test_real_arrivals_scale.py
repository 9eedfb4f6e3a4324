"""Floods, wrong clocks and look-ups on an S3 that is not moto's.

The ways in are as the tests have them: the messages lie in memory, for SeaweedFS sends no
notifications. What S3 itself sends is therefore tested on moto alone (`test_notifications`).
"""

# ruff: noqa: F403
from tests.pipeline.test_arrivals_scale import *

# Its bucket is a stand-in, whoever else is real.
del test_a_tick_costs_no_more_than_what_is_new_however_much_lies_in_the_bucket  # noqa: F821
