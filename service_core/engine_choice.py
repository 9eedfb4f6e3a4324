"""Which engine curates a batch, and why: decided from the batch alone, so that a step that is run
again decides alike.

Results do not depend on the choice; seconds and money do. Who asks first is heard: the run's
configuration, then a contract that names its engine, then the installation's default, and last the
batch's size against the contract's threshold.

The figures below make estimates, which help to choose and are never a promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from service_core.contract.model import Contract, Engine
from service_core.settings import Settings

# --- In process: measured (2M orders, 135 MB of CSV, on 2 vCPUs of an x86-64 server) --------------

#: Landed bytes that the curated step gets through in a second, staging included: 1.7 to 2.0 s for
#: the 135 MB, 10.5 s for five times as many. JSON Lines, whose rows are longer, come at twice that.
IN_PROCESS_BYTES_PER_SECOND = 60_000_000
#: What a source object costs beside its bytes. Little, because validation has merged small files
#: into large parts by then: 2,000 files of 200 rows took 1.35 s longer than one file of all.
IN_PROCESS_SECONDS_PER_FILE = 0.001
#: Bookkeeping and first imports, whatever the size: 0.6 to 1.5 s.
IN_PROCESS_START_SECONDS = 1.0
#: What those figures were measured on.
IN_PROCESS_VCPUS = 2

# --- Glue: cautious estimates, not measured on AWS ------------------------------------------------

#: Capacity, installing the additional Python modules, and starting Spark. AWS speaks of less than a
#: minute without the modules. All of it is taken to be billed.
GLUE_START_SECONDS = 90.0
#: Landed bytes that one DPU gets through in a second. Half of what local Spark did on 2 vCPUs (2M
#: orders in 1.9 to 2.3 s once it was warm), though a DPU has four.
GLUE_BYTES_PER_SECOND_PER_DPU = 30_000_000
#: Workers that read no rows.
_DRIVERS = 1
#: AWS bills a Spark job by the second, from one minute up.
GLUE_LEAST_BILLED_SECONDS = 60.0

#: What a source object beyond the first counts for beside its own bytes: those that could be
#: curated in the time that it costs.
FILE_BYTES = round(IN_PROCESS_SECONDS_PER_FILE * IN_PROCESS_BYTES_PER_SECOND)

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid for, and how much.

    Attributes:
        dpu_hour: The price of a DPU-hour on Glue.
        vcpu_hour: The price of a vCPU-hour where Dagster's runs execute, in the same currency.
        glue_workers: How many workers a Glue job run holds; the first is the driver's.
        dpus_per_worker: 1 for G.1X (4 vCPUs and 16 GB), 2 for G.2X, and so on.
    """

    dpu_hour: float
    vcpu_hour: float
    glue_workers: int
    dpus_per_worker: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The prices and the job's size that the environment names."""
        return cls(
            dpu_hour=settings.dpu_hour_price,
            vcpu_hour=settings.vcpu_hour_price,
            glue_workers=settings.glue_workers,
            dpus_per_worker=_dpus(settings.glue_worker_type),
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What curating a batch would take.

    Attributes:
        seconds: From the start to the verdict.
        hours: What is paid for: DPU-hours on Glue, vCPU-hours in process.
        cost: In the currency of the prices.
    """

    seconds: float
    hours: float
    cost: float


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of one batch.

    Attributes:
        engine: Never `auto`.
        reason: One sentence.
        counted_bytes: The batch's size as the rule counts it: landed bytes, and `FILE_BYTES` for
            each source object beyond the first.
        in_process: The estimate for this process.
        glue: The estimate for a Glue job, started directly or by a state machine.
    """

    engine: Engine
    reason: str
    counted_bytes: int
    in_process: Estimate
    glue: Estimate


def choose_engine(
    contract: Contract,
    *,
    bytes: int,
    files: int,
    override: Engine | None = None,
    default: Engine | None = None,
    prices: Prices,
) -> EngineChoice:
    """Choose what curates a batch.

    Args:
        contract: The batch's; its engine and its threshold count.
        bytes: Landed size of the source objects to curate.
        files: How many they are.
        override: What the run's configuration names; `auto` there means by size, whatever the
            contract names. None where it names nothing.
        default: `settings.engine`, for contracts that leave the choice open; `auto` is as None.
        prices: What the estimates are made of.

    Raises:
        ValueError: a negative size or number of files.
    """
    if bytes < 0 or files < 0:
        raise ValueError(
            f"A batch of {bytes} bytes in {files} files cannot be; expected 0 or more of both."
        )
    counted = bytes + max(files - 1, 0) * FILE_BYTES
    engine, reason = _decided(contract, bytes, files, counted, override, default)
    return EngineChoice(
        engine=engine,
        reason=reason,
        counted_bytes=counted,
        in_process=_in_process(counted, prices),
        glue=_on_glue(bytes, prices),
    )


def _decided(
    contract: Contract,
    bytes: int,
    files: int,
    counted: int,
    override: Engine | None,
    default: Engine | None,
) -> tuple[Engine, str]:
    if override not in (None, Engine.AUTO):
        return override, f"The run's configuration names {override}."
    if override is None and contract.engine is not Engine.AUTO:
        return contract.engine, f"The contract names {contract.engine}."
    if override is None and default not in (None, Engine.AUTO):
        return default, (
            f"The contract leaves the choice open, and {default} is the default here "
            "(LAKEGATE_ENGINE)."
        )
    threshold = contract.engine_threshold_bytes
    leaves = counted > threshold
    shown = _quantity
    if counted != threshold and shown(counted) == shown(threshold):
        shown = _exactly
    size = shown(bytes)
    if counted != bytes:
        size += f" in {files:,} files, which count as {shown(counted)},"
    engine, compared = (Engine.GLUE, "above") if leaves else (Engine.IN_PROCESS, "not above")
    limit = shown(threshold)
    return engine, f"The batch's {size} is {compared} the contract's threshold of {limit}."


def _in_process(counted: int, prices: Prices) -> Estimate:
    seconds = IN_PROCESS_START_SECONDS + counted / IN_PROCESS_BYTES_PER_SECOND
    hours = seconds / _HOUR * IN_PROCESS_VCPUS
    return Estimate(seconds, hours, hours * prices.vcpu_hour)


def _on_glue(bytes: int, prices: Prices) -> Estimate:
    readers = (prices.glue_workers - _DRIVERS) * prices.dpus_per_worker
    seconds = GLUE_START_SECONDS + bytes / (GLUE_BYTES_PER_SECOND_PER_DPU * readers)
    billed = max(seconds, GLUE_LEAST_BILLED_SECONDS)
    hours = billed / _HOUR * prices.glue_workers * prices.dpus_per_worker
    return Estimate(seconds, hours, hours * prices.dpu_hour)


def _dpus(worker_type: str) -> float:
    """`G.1X` and `R.1X` are one DPU, `G.16X` is 16; only `G.025X` is a quarter of one."""
    digits = worker_type.partition(".")[2].removesuffix("X")
    return int(digits) / 100 if digits.startswith("0") else float(digits)


def _quantity(bytes: int) -> str:
    """A size as people read it, such as `128.9 MiB`."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        size = bytes / 1024**power
        if size >= 1:
            return f"{size:,.0f} {unit}" if size >= 1000 else f"{size:.4g} {unit}"
    return _exactly(bytes)


def _exactly(bytes: int) -> str:
    return f"{bytes:,} B"
