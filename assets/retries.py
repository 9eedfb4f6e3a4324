"""Retries: what is tried again, how often, and by which of Dagster's three mechanisms.

| what failed | its step (op retry) | its run (run retry) | by a person |
|---|---|---|---|
| a service, the disk, the memory | waits, then again | from the failed step | re-execute |
| anything unforeseen | three times again | no | re-execute |
| the data, the contract, the run's own wording | never | never | replay, when it is mended |
| the process died | | from the failed step | re-execute |

Dagster looks at `Failure(allow_retries=False)` for op retries alone; run retries go by a tag of the
run, which therefore says "false" at the job and is turned to "true" only for as long as an outage
is the reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import (
    AssetExecutionContext,
    Backoff,
    Failure,
    Jitter,
    OpExecutionContext,
    RetryPolicy,
    RetryRequested,
)

from resources.outages import OUTAGE_RETRIES, ServiceFailedError, outage_wait, sentence_of
from service_core.naming import NO_RETRY_ON_DATA_ERRORS, RETRY_IN_AN_OUTAGE

#: What no outage explains is tried again too, with jitter so that many runs do not come back at
#: once. Data errors never reach this: they are verdicts, or `Failure(allow_retries=False)`.
SYSTEM_RETRIES = RetryPolicy(
    max_retries=3, delay=2, backoff=Backoff.EXPONENTIAL, jitter=Jitter.FULL
)


@contextmanager
def outages_waited_out(context: AssetExecutionContext | OpExecutionContext) -> Iterator[None]:
    """Try the step again while a service fails, and say in a sentence which.

    Raises:
        RetryRequested: a service, the disk or the memory failed.
        Failure: it did so through every try; the run may be tried again.
    """
    if context.run.tags.items() >= RETRY_IN_AN_OUTAGE.items():
        # Inherited from the run that this one repeats: its outage may be over, and what fails now
        # may be the data.
        context.instance.add_run_tags(context.run_id, NO_RETRY_ON_DATA_ERRORS)
    try:
        yield
    except Exception as error:
        said = sentence_of(error)
        if said is None or isinstance(error, Failure | RetryRequested):
            raise
        context.log.error(said)
        if context.retry_number < OUTAGE_RETRIES:
            failed = ServiceFailedError(said)
            failed.__cause__ = error
            raise RetryRequested(
                max_retries=OUTAGE_RETRIES,
                seconds_to_wait=outage_wait(context.retry_number + 1),
            ) from failed
        context.instance.add_run_tags(context.run_id, RETRY_IN_AN_OUTAGE)
        raise Failure(said, allow_retries=False) from error
