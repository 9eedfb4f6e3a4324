"""The Lambda layer: what decides, without what judges rows.

A function and its layers may unpack to 250 MB, and the kernel's libraries alone are more than
that. The layer therefore carries what a function beside the platform needs: contracts, arrival,
manifests, ledger, verdicts, the gate. What more it is asked to carry is measured, and refused where
it exceeds the limit, or wants a newer C library than Lambda's: a layer that is built also loads.

Files come from this environment where it has them in the pinned versions and for the layer's
machine, which needs no network; else pip fetches them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath

import service_core
from deploy.distributions import (
    DECIDING,
    JUDGING,
    LOCK,
    PYTHON,
    Distribution,
    NotHereError,
    closure,
    installed,
    is_this_python,
    locked_versions,
    pinned,
)
from deploy.packaging import (
    Held,
    Package,
    PackagingError,
    Packed,
    held_by_service_core,
    package,
    service_core_sources,
)

#: What Lambda means by 250 MB, for a function and all of its layers together.
LIMIT_BYTES = 262_144_000
#: Of Amazon Linux 2, on which Lambda's Python 3.11 runs.
GLIBC = (2, 26)
#: What a layer may carry beside what it always does, by the names that `--with` takes.
OPTIONS = tuple(name.partition("[")[0] for name in JUDGING)

_FOLDER = "python"
# Tests, and what only compilers, type checkers and installers read. Licences stay.
_UNNEEDED_FOLDERS = frozenset({"tests", "__pycache__", "bin"})
_UNNEEDED_SUFFIXES = frozenset(
    {".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyc", ".pyi", ".pyx"}
)
_INSTALLERS_OWN = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"})
_GLIBC_SYMBOLS = re.compile(rb"GLIBC_([0-9]+)\.([0-9]+)(?:\.[0-9]+)?\0")
_NAMED = 5


class Architecture(StrEnum):
    """The machines that Lambda offers, by Lambda's names."""

    X86_64 = "x86_64"
    ARM64 = "arm64"

    @property
    def machine(self) -> str:
        """As Linux and wheels call it."""
        return "aarch64" if self is Architecture.ARM64 else "x86_64"


def build_lambda_layer(
    out: Path,
    *,
    architecture: Architecture = Architecture.X86_64,
    extra: Sequence[str] = (),
    packed: Packed = lambda done, total: None,
) -> Package:
    """Pack `service_core` with its dependencies as a layer for Lambda's Python 3.11.

    Args:
        out: The folder to put it in; made where it is missing.
        architecture: The function's.
        extra: Of `OPTIONS`, what to carry beside what decides.
        packed: Told how far the compressing is.

    Raises:
        PackagingError: the layer would exceed Lambda's limit or not load there, a dependency
            cannot be had, or `out` cannot be written.
    """
    if unknown := sorted(set(extra) - set(OPTIONS)):
        raise PackagingError(
            f"A layer cannot carry {unknown[0]!r}; it can carry {', '.join(OPTIONS)}."
        )
    wanted = (*DECIDING, *(text for text in JUDGING if text.partition("[")[0] in extra))
    ours = service_core_sources()
    content = {f"{_FOLDER}/{name}": data for name, data in ours.items()}
    holds = [held_by_service_core(ours)]
    for distribution in _distributions(wanted, architecture):
        its = dict(_needed(distribution.files))
        holds.append(Held(distribution.name, distribution.version, sum(map(len, its.values()))))
        content |= {f"{_FOLDER}/{path}": data for path, data in its.items()}
    _check_size(holds)
    _check_c_library(content)
    return package(
        f"lakegate_lambda_layer-{service_core.__version__}-{architecture}",
        content,
        tuple(holds),
        out,
        compression=zipfile.ZIP_DEFLATED,
        packed=packed,
    )


def _distributions(
    requirements: Sequence[str], architecture: Architecture
) -> tuple[Distribution, ...]:
    """The requirements and all of theirs, in the pinned versions, for the architecture."""
    pins = locked_versions()
    try:
        if not is_this_python():
            raise NotHereError("This is another Python.")
        return _matching(requirements, architecture, pins, None)
    except NotHereError:
        pass
    with tempfile.TemporaryDirectory(prefix="lakegate-layer-") as folder:
        root = Path(folder)
        _fetch(requirements, architecture, pins, root)
        try:
            return _matching(requirements, architecture, pins, root)
        except NotHereError as problem:
            raise PackagingError(f"What pip fetched cannot be packed: {problem}") from problem


def _matching(
    requirements: Sequence[str],
    architecture: Architecture,
    pins: Mapping[str, str],
    root: Path | None,
) -> tuple[Distribution, ...]:
    found = []
    for name in closure(requirements, machine=architecture.machine, root=root):
        its = installed(name, root)
        if its.version != pinned(pins, name):
            raise NotHereError(f"{name} is here as {its.version}, not {pinned(pins, name)}.")
        if not any(_runs_on(tag, architecture) for tag in its.tags):
            raise NotHereError(f"{name} is here for {its.tags}, not for {architecture}.")
        found.append(its)
    return tuple(found)


def _runs_on(tag: str, architecture: Architecture) -> bool:
    platform = tag.rpartition("-")[2]
    return platform == "any" or (
        platform.startswith("manylinux") and platform.endswith(architecture.machine)
    )


def _fetch(
    requirements: Sequence[str],
    architecture: Architecture,
    pins: Mapping[str, str],
    target: Path,
) -> None:
    """Install wheels for the architecture into a folder.

    Raises:
        PackagingError: pip is not here, or failed.
    """
    platforms = [f"manylinux_2_{minor}_{architecture.machine}" for minor in range(28, 16, -1)]
    platforms.append(f"manylinux2014_{architecture.machine}")
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile"),
        *("--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:"),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("--python-version", ".".join(map(str, PYTHON)), "--implementation", "cp"),
        *("--target", str(target), "--constraint", str(LOCK)),
        *(f"{text}=={pinned(pins, text.partition('[')[0])}" for text in requirements),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagingError(_why_pip_failed(done.stderr, architecture))


def _why_pip_failed(said: str, architecture: Architecture) -> str:
    if "No module named pip" in said:
        return (
            f"The layer for {architecture} needs packages that are not installed here, and there "
            f"is no pip to fetch them: run `{sys.executable} -m ensurepip`."
        )
    # pip ends with "No matching distribution" in both cases; only without a network does it retry.
    if "Retrying (" in said or "Could not fetch URL" in said:
        return (
            f"The layer for {architecture} needs packages that are not installed here, and pip "
            "cannot reach the package index: connect to the network, or set pip's index, and "
            "try again."
        )
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if "ERROR: " in line]
    return (
        f"pip could not fetch the packages for {architecture}: "
        f"{errors[-1] if errors else said.strip() or 'it gave no reason.'}"
    )


def _needed(files: Mapping[PurePosixPath, bytes]) -> Iterator[tuple[str, bytes]]:
    for path, data in files.items():
        in_metadata = path.parts[0].endswith(".dist-info")
        if in_metadata and path.name in _INSTALLERS_OWN:
            continue
        if not in_metadata and (
            _UNNEEDED_FOLDERS.intersection(path.parts[:-1]) or path.suffix in _UNNEEDED_SUFFIXES
        ):
            continue
        yield path.as_posix(), data


def _check_size(holds: Sequence[Held]) -> None:
    total = sum(held.bytes for held in holds)
    if total < LIMIT_BYTES:
        return
    largest = sorted(holds, key=lambda held: -held.bytes)[:_NAMED]
    named = ", ".join(f"{held.project} {megabytes(held.bytes)}" for held in largest)
    raise PackagingError(
        f"The layer would unpack to {megabytes(total)}, and Lambda allows less than "
        f"{megabytes(LIMIT_BYTES)} for a function with its layers. The largest: {named}. Leave out "
        "what was asked for beside the usual, or run the function from a container image, which "
        "may be 10 GB."
    )


def _check_c_library(content: Mapping[str, bytes]) -> None:
    """Refuse what would only fail when a function imports it."""
    wanting = {
        name: newest
        for name, data in content.items()
        if (newest := _glibc_wanted(name, data)) > GLIBC
    }
    if wanting:
        name, (major, minor) = max(wanting.items(), key=lambda item: item[1])
        raise PackagingError(
            f"{name.removeprefix(_FOLDER + '/')} wants the C library (glibc) {major}.{minor}, and "
            f"Lambda's Python 3.11 has {GLIBC[0]}.{GLIBC[1]}: the layer would not load. "
            "Leave out what was asked for beside the usual, or run the function from a container "
            "image with a newer system."
        )


def _glibc_wanted(name: str, data: bytes) -> tuple[int, int]:
    """The newest version of the C library that a shared library's symbols name; 0.0 for others."""
    if not data.startswith(b"\x7fELF"):
        return (0, 0)
    found = ((int(major), int(minor)) for major, minor in _GLIBC_SYMBOLS.findall(data))
    return max(found, default=(0, 0))


def megabytes(count: int) -> str:
    """A size in the unit that AWS states its limits in: 250 MB are 262,144,000 bytes."""
    return f"{count / 1024**2:,.1f} MB"
