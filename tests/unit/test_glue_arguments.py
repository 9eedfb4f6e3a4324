"""What Glue acts on itself, and what a script gets."""

from __future__ import annotations

import pytest

from deploy.local.glue_arguments import Launch, sort_arguments


def sort(**arguments: str) -> Launch:
    given = {f"--{name.replace('_', '-')}": value for name, value in arguments.items()}
    return sort_arguments(given, job_name="j", job_id="j_1", run_id="jr_1")


def test_a_script_gets_its_own_arguments_and_three_of_glue_s() -> None:
    launch = sort(request="s3://a/b", extra_py_files="s3://a/c.zip", job_language="python")
    assert launch.script == (
        *("--JOB_ID", "j_1"),
        *("--JOB_RUN_ID", "jr_1"),
        *("--JOB_NAME", "j"),
        *("--request", "s3://a/b"),
    )
    assert launch.missed == ()


def test_nobody_can_pass_a_job_off_as_another() -> None:
    launch = sort_arguments({"--JOB_NAME": "other"}, job_name="j", job_id="j_1", run_id="jr_1")
    assert launch.script[-2:] == ("--JOB_NAME", "j")


def test_lists_may_be_spaced_and_requirements_may_have_extras() -> None:
    launch = sort(
        extra_py_files=" s3://a/b.zip , s3://a/c.py,",
        additional_python_modules="polars==2.1.0, pandera[polars,io]==0.35.0",
    )
    assert launch.python_files == ("s3://a/b.zip", "s3://a/c.py")
    assert launch.modules == ("polars==2.1.0", "pandera[polars,io]==0.35.0")


@pytest.mark.parametrize(
    ("conf", "settings"),
    [
        ("spark.a=1", {"spark.a": "1"}),
        ("spark.a=1 --conf spark.b=x=y", {"spark.a": "1", "spark.b": "x=y"}),
        ("--conf spark.a=two words  --conf  spark.b=", {"spark.a": "two words", "spark.b": ""}),
        ("", {}),
        ("nonsense", {}),
    ],
)
def test_several_settings_are_chained_in_one_argument(conf: str, settings: dict[str, str]) -> None:
    assert sort(conf=conf).spark_conf == settings


def test_what_has_no_effect_here_and_matters_is_named() -> None:
    launch = sort(extra_jars="s3://a/b.jar", enable_metrics="", datalake_formats="iceberg")
    assert launch.missed == ("--datalake-formats", "--extra-jars")
    assert "--enable-metrics" not in launch.script
