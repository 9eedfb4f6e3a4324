"""The Spark job: curates the batch that a request names, and reports to Dagster if it asked.

It is the same file on Glue and on a laptop:

    python curate.py --request s3://lakegate-dev-curated/orders/2026-11-21/<batch>/<attempt>/request.json

Exit code 0 means that the batch has a verdict, whatever it says: bad data is no failure. Otherwise
the last line on stderr says why. Arguments of Glue's own and of Dagster Pipes may stand beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster_pipes import (
    DAGSTER_PIPES_CLI_PARSER,
    PipesCliArgsParamsLoader,
    PipesContext,
    PipesParams,
    PipesS3MessageWriter,
    decode_param,
    open_dagster_pipes,
)

from service_core.curation.request import CurationRequest, RequestError, parse_request
from service_core.layout import Zone, verdict_key
from service_core.run import Run
from service_core.s3_store import S3ObjectStore, split_uri
from service_core.spark import judge_on_spark, requested_batch
from service_core.spark.crew import TaskFailedError
from service_core.spark.java import JavaMissingError
from service_core.spark.reach import Reach, region_of, s3_client, s3_endpoint_of
from service_core.spark.session import job_session
from service_core.verdict import Verdict

#: Errors whose own words are enough.
_SAID = (RequestError, TaskFailedError, JavaMissingError)


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit code.

    Args:
        argv: The arguments, without the script's name.
    """
    parser = argparse.ArgumentParser(prog="curate", allow_abbrev=False)
    parser.add_argument("--request", required=True, help="URI of the request: s3://bucket/key")
    uri = parser.parse_known_args(argv)[0].request
    try:
        _run(uri, argv)
    except _SAID as error:
        return _failed(str(error))
    except Exception as error:  # noqa: BLE001  the process ends here
        traceback.print_exc()
        return _failed(f"{type(error).__name__}: {error}")
    return 0


def _run(uri: str, argv: Sequence[str]) -> None:
    s3 = s3_client(region_of(os.environ), s3_endpoint_of(os.environ))
    arguments = _Arguments(argv)
    if not arguments.is_dagster_pipes_process():
        request, verdict = _curate(uri, s3)
        print(json.dumps(_metadata(request, verdict)), flush=True)
        return
    writer = PipesS3MessageWriter(client=s3, interval=1)
    with open_dagster_pipes(params_loader=arguments, message_writer=writer) as pipes:
        request, verdict = _curate(uri, s3)
        _report(pipes, request, verdict)


def _curate(uri: str, s3: Any) -> tuple[CurationRequest, Verdict]:
    request = _requested(uri, s3)
    store = S3ObjectStore(s3, request)
    with tempfile.TemporaryDirectory(prefix="lakegate-") as folder:
        run = Run(
            id=request.run_id,
            attempt=request.attempt,
            clock=lambda: datetime.now(UTC),
            scratch=Path(folder),
            replay_id=request.replay_id,
        )
        batch = requested_batch(request, store, run.scratch)
        spark = job_session(run.scratch)
        try:
            verdict = judge_on_spark(
                spark,
                batch,
                store,
                run,
                published=request.published,
                engine=request.engine,
                reach=Reach.of(request, os.environ),
                force=request.force,
            )
        finally:
            spark.stop()
    return request, verdict


def _requested(uri: str, s3: Any) -> CurationRequest:
    try:
        bucket, key = split_uri(uri)
    except ValueError as wrong:
        raise RequestError(f"--request: {wrong}") from wrong
    try:
        return parse_request(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except s3.exceptions.ClientError as error:
        raise RequestError(f"The request {uri} cannot be read: {error}") from error


def _report(pipes: PipesContext, request: CurationRequest, verdict: Verdict) -> None:
    """Tell Dagster what was made, and what became of every check."""
    asset = f"curated/{request.dataset}"
    pipes.report_asset_materialization(asset_key=asset, metadata=_metadata(request, verdict))
    for check in verdict.checks:
        pipes.report_asset_check(
            asset_key=asset,
            check_name=check.name,
            passed=check.passed,
            # A rule whose offenders were diverted has failed, and blocks nothing.
            severity="ERROR" if check.blocking else "WARN",
            metadata={
                "detail": check.detail,
                "expected": check.expectation,
                "rows_failed": check.rows_failed,
                "rows_read": verdict.rows_read,
                "severity": check.severity.value,
                "batch_id": verdict.batch_id,
                **({"figure": check.figure} if check.figure is not None else {}),
            },
        )


def _metadata(request: CurationRequest, verdict: Verdict) -> Mapping[str, Any]:
    key = verdict_key(verdict.dataset, verdict.partition, verdict.batch_id)
    return {
        "batch_id": verdict.batch_id,
        "passed": verdict.passed,
        "rows_read": verdict.rows_read,
        "rows_accepted": verdict.rows_accepted,
        "rows_quarantined": verdict.rows_quarantined,
        "engine": verdict.engine,
        "verdict": f"s3://{request.bucket(Zone.DQ_RESULTS)}/{key}",
    }


def _failed(cause: str) -> int:
    print(" ".join(cause.split()), file=sys.stderr, flush=True)
    return 1


class _Arguments(PipesCliArgsParamsLoader):
    """Dagster's arguments among those given, wherever they come from."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__()
        self._given = DAGSTER_PIPES_CLI_PARSER.parse_known_args(list(argv))[0]

    def is_dagster_pipes_process(self) -> bool:
        return bool(self._given.dagster_pipes_context and self._given.dagster_pipes_messages)

    def load_context_params(self) -> PipesParams:
        return decode_param(self._given.dagster_pipes_context)  # type: ignore[no-any-return]

    def load_messages_params(self) -> PipesParams:
        return decode_param(self._given.dagster_pipes_messages)  # type: ignore[no-any-return]


if __name__ == "__main__" and (code := main(sys.argv[1:])):
    # Glue takes any other way out than falling off the end for a failure.
    sys.exit(code)
