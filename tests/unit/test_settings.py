"""The settings are read from the environment alone, and a wrong one is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resources.object_store import ObjectStoreResource
from service_core.contract.model import Engine
from service_core.layout import Zone
from service_core.settings import Environment, Settings, SettingsError

ROOT = Path(__file__).resolve().parents[2]


def test_an_empty_environment_is_a_dev_in_the_cloud() -> None:
    settings = Settings.from_environment({})
    assert settings.environment is Environment.DEV
    assert settings.endpoint_url is None
    assert settings.bucket(Zone.DQ_RESULTS) == "lakegate-dev-dq-results"
    assert settings.database == "lakegate_dev"


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        {
            "LAKEGATE_ENV": "prod",
            "LAKEGATE_NAME_PREFIX": "north-lake",
            "LAKEGATE_CONTRACTS": "/srv/contracts",
            "LAKEGATE_SCRATCH": "/var/scratch",
            "LAKEGATE_SENSORS": "on",
            "LAKEGATE_SENSOR_SECONDS": "5",
            "LAKEGATE_ENGINE": "step_functions",
            "LAKEGATE_DPU_HOUR_PRICE": "0.29",
            "LAKEGATE_VCPU_HOUR_PRICE": "0",
            "LAKEGATE_GLUE_ROLE": "arn:aws:iam::123456789012:role/curation",
            "LAKEGATE_GLUE_WORKER_TYPE": "G.2X",
            "LAKEGATE_GLUE_WORKERS": "10",
            "LAKEGATE_GLUE_TIMEOUT_MINUTES": "45",
            "LAKEGATE_GLUE_CONCURRENT_RUNS": "2",
            "LAKEGATE_AWS_ATTEMPTS": "3",
            "LAKEGATE_AWS_CONNECT_SECONDS": "2",
            "LAKEGATE_AWS_READ_SECONDS": "7.5",
            "AWS_REGION": "eu-north-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:5000/",
        }
    )
    assert settings.environment is Environment.PROD
    assert settings.ledger_table == "north-lake-prod-ledger"
    assert settings.database == "north_lake_prod"
    assert settings.contracts == Path("/srv/contracts")
    assert settings.scratch == Path("/var/scratch")
    assert settings.sensors_on
    assert settings.sensor_seconds == 5
    assert settings.engine is Engine.STEP_FUNCTIONS
    assert settings.dpu_hour_price == 0.29
    assert settings.vcpu_hour_price == 0
    assert settings.glue_role == "arn:aws:iam::123456789012:role/curation"
    assert (settings.glue_worker_type, settings.glue_workers) == ("G.2X", 10)
    assert (settings.glue_timeout_minutes, settings.glue_concurrent_runs) == (45, 2)
    assert (settings.aws_attempts, settings.aws_connect_seconds) == (3, 2)
    assert settings.aws_read_seconds == 7.5
    assert settings.region == "eu-north-1"
    assert settings.endpoint_url == "http://127.0.0.1:5000"


def test_s3_may_answer_somewhere_else_than_the_rest() -> None:
    one = Settings.from_environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"})
    assert one.endpoint_of("s3") == one.endpoint_of("glue") == "http://127.0.0.1:5000"
    two = Settings.from_environment(
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:5000", "AWS_ENDPOINT_URL_S3": "http://[::1]:8333/"}
    )
    assert two.endpoint_of("s3") == "http://[::1]:8333"
    assert two.endpoint_of("glue") == "http://127.0.0.1:5000"


def test_the_default_region_counts_only_where_no_region_is_named() -> None:
    assert Settings.from_environment({"AWS_DEFAULT_REGION": "eu-west-1"}).region == "eu-west-1"
    both = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-3"}
    assert Settings.from_environment(both).region == "eu-west-3"


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    blank = {"LAKEGATE_ENV": "", "AWS_ENDPOINT_URL": " ", "LAKEGATE_SCRATCH": ""}
    assert Settings.from_environment(blank) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEGATE_ENV", "production"),
        ("LAKEGATE_NAME_PREFIX", "Lake_Gate"),
        ("LAKEGATE_NAME_PREFIX", "x" * 40),
        ("LAKEGATE_SENSOR_SECONDS", "0"),
        ("LAKEGATE_SENSORS", "perhaps"),
        ("LAKEGATE_ENGINE", "pandas"),
        ("LAKEGATE_DPU_HOUR_PRICE", "-0.44"),
        ("LAKEGATE_VCPU_HOUR_PRICE", "nan"),
        ("AWS_ENDPOINT_URL", "localhost:5000"),
        ("AWS_REGION", "Mars 1"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({variable: value})
    assert variable in str(refused.value)
    assert value in str(refused.value)


def test_the_example_names_every_variable_that_is_read_and_gives_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    assert Settings.from_environment(given) == Settings()
    source = (ROOT / "service_core" / "settings.py").read_text()
    assert set(re.findall(r'"((?:LAKEGATE|AWS)_[A-Z_]+)":', source)) <= set(given)


def test_a_resource_gives_back_the_settings_that_it_was_made_for(tmp_path: Path) -> None:
    settings = Settings(
        name_prefix="lake",
        scratch=tmp_path,
        endpoint_url="http://127.0.0.1:1",
        engine=Engine.GLUE,
        dpu_hour_price=0.29,
    )
    resource = ObjectStoreResource.of(settings)
    assert resource.settings() == settings
    assert resource.scratch() == tmp_path
    assert ObjectStoreResource.of(Settings()).settings() == Settings()


def test_a_call_that_is_never_answered_has_failed_before_dagster_gives_up_on_the_tick() -> None:
    hurried = Settings(aws_attempts=20, aws_read_seconds=600).in_a_hurry()
    waits = sum(2**n for n in range(hurried.aws_attempts - 1))
    assert hurried.aws_attempts * hurried.aws_read_seconds + waits < 55
    patient = Settings(aws_attempts=2, aws_read_seconds=1.0)
    assert patient.in_a_hurry().aws_attempts == 2
    assert patient.in_a_hurry().aws_read_seconds == 1.0
