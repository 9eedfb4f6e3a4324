"""Messages of remote work: heard from the first on by whoever listens, once, in order; and a job's
odd words never hurt the step that listens.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import dagster as dg
import pytest
from dagster_pipes import PipesContext as JobSide
from dagster_pipes import PipesMappingParamsLoader, PipesS3MessageWriter, open_dagster_pipes

from resources.pipes_messages import PipesMessages
from service_core.layout import Zone
from service_core.settings import Settings
from tests.glue_steps import said

CURATED = dg.AssetKey(["curated", "orders"])
PREFIX = "_pipes/orders/2026-11-21/b1/first/"


class Writer:
    """Puts chunks of messages where a job's writer would."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def put(self, chunk: int, *messages: dict[str, Any] | str) -> None:
        lines = [m if isinstance(m, str) else json.dumps(m) for m in messages]
        self._s3.put_object(
            Bucket=self._bucket, Key=f"{PREFIX}{chunk}.json", Body="\n".join(lines).encode()
        )

    def later(self) -> None:
        """Let a second pass: S3 tells times in whole seconds."""
        time.sleep(1.1)


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"__dagster_pipes_version": "0.1", "method": method, "params": params}


def check(name: str, passed: bool) -> dict[str, Any]:
    return message(
        "report_asset_check", asset_key="curated/orders", check_name=name, passed=passed,
        severity="ERROR", metadata=None,
    )  # fmt: skip


@pytest.fixture
def writer(settings: Settings, aws: Callable[[str], Any]) -> Writer:
    return Writer(aws("s3"), settings.bucket(Zone.DQ_RESULTS))


@pytest.fixture
def listen(
    settings: Settings, aws: Callable[[str], Any], instance: dg.DagsterInstance
) -> Callable[[Callable[[PipesMessages], Any]], str]:
    """Run a function of the messages inside a real step; returns the run's log."""

    def make(listener: Callable[[PipesMessages], Any]) -> str:
        @dg.asset(key=CURATED)
        def curated(context: dg.AssetExecutionContext) -> None:
            listener(
                PipesMessages(
                    context, aws("s3"), bucket=settings.bucket(Zone.DQ_RESULTS), prefix=PREFIX
                )
            )

        result = dg.materialize([curated], instance=instance)
        return said(instance, result.run_id)

    return make


def test_what_a_job_writes_by_the_parameters_is_what_the_step_hears(
    listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def listener(messages: PipesMessages) -> None:
        monkeypatch.setattr(JobSide, "_instance", None)
        loader = PipesMappingParamsLoader(
            {
                "DAGSTER_PIPES_CONTEXT": messages.context_parameter,
                "DAGSTER_PIPES_MESSAGES": messages.messages_parameter,
            }
        )
        writer = PipesS3MessageWriter(boto3.client("s3"), interval=0)
        with open_dagster_pipes(params_loader=loader, message_writer=writer) as pipes:
            assert pipes.asset_key == "curated/orders"
            pipes.log.warning("three rows have no amount")
            pipes.report_asset_materialization({"rows_accepted": 3})
        messages.read()
        assert messages.opened
        assert messages.closed
        assert messages.reported.materializations[CURATED]["rows_accepted"].value == 3
        messages.clear()
        assert messages.reported.materializations, "what was read stays known"

    assert "three rows have no amount" in listen(listener)
    monkeypatch.setattr(JobSide, "_instance", None)


def test_each_message_is_reported_once_however_often_one_looks(
    listen: Callable[..., str], writer: Writer
) -> None:
    def listener(messages: PipesMessages) -> None:
        assert messages.read() == 0
        writer.put(1, message("opened"), message("log", message="first", level="INFO"))
        # A number is missing: what comes after it is not heard before it.
        writer.put(3, message("log", message="third", level="INFO"))
        assert messages.read() == 2
        assert messages.read() == 0
        writer.put(2, message("log", message="second", level="INFO"))
        assert messages.read() == 2
        assert not messages.closed

    log = listen(listener)
    assert [log.count(word) for word in ("first", "second", "third")] == [1, 1, 1]
    assert log.index("first") < log.index("second") < log.index("third")


def test_a_second_try_of_the_same_work_is_heard_anew(
    listen: Callable[..., str], writer: Writer
) -> None:
    """A state machine's retry starts another job run with the same parameters: it writes over the
    chunks of the first one, of which some may be left."""

    def listener(messages: PipesMessages) -> None:
        writer.put(1, message("opened"))
        writer.put(2, check("rows_conserved", False), check("amount_range", True))
        raised = {"name": "OSError", "message": "disk full\n", "stack": [], "cause": None}
        writer.put(3, message("closed", exception={**raised, "context": None}))
        messages.read()
        assert messages.exception == "OSError: disk full"
        writer.later()
        writer.put(1, message("opened"))
        messages.read()
        assert not messages.closed
        assert messages.exception is None
        writer.put(2, check("rows_conserved", True))
        writer.put(3, message("closed"))
        messages.read()
        assert messages.closed
        passed = {c.check_name: c.passed for c in messages.reported.checks}
        assert passed == {"rows_conserved": True, "amount_range": True}

    assert "unexpected message received after closed" not in listen(listener)


def test_what_a_longer_first_try_left_is_not_taken_for_the_second_one_s(
    listen: Callable[..., str], writer: Writer
) -> None:
    """The listener came only after the first try had ended."""

    def listener(messages: PipesMessages) -> None:
        writer.put(2, message("closed"))
        writer.later()
        writer.put(1, message("opened"))
        assert messages.read() == 1
        assert not messages.closed

    listen(listener)


def test_words_that_nobody_understands_are_a_warning(
    listen: Callable[..., str], writer: Writer
) -> None:
    def listener(messages: PipesMessages) -> None:
        writer.put(
            1,
            "no JSON at all",
            "[1, 2]",
            "7",
            message("report_the_weather", sky="blue"),
            check("rows_conserved", "perhaps"),  # type: ignore[arg-type]
            message("log", message="shouting", level="NO SUCH LEVEL"),
            check("amount_range", True),
        )
        messages.read()
        assert [c.check_name for c in messages.reported.checks] == ["amount_range"]

    log = listen(listener)
    assert log.count("cannot be reported") == 6
    assert "report_the_weather" in log
