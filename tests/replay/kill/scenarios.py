"""The scenarios: what lies in the lake, what is then done, and what must be true in the end.

What a row is worth stands in the row itself, for whoever reads the file: its note says under which
contracts it is good. So what is expected of a case follows from the landed files and from a few
words here, and from nothing that the code under test has computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from service_core.naming import REPLAYS_SENSOR, arrivals_sensor
from tests.replay.kill.forking import Json

DATASET = "orders"
ARRIVALS = [arrivals_sensor(DATASET)]
REPLAYS = [REPLAYS_SENSOR]

HEADER = "order_id,amount,currency,quantity,note"
#: Notes of rows: `good` under every contract, `bad` under none, the others under some.
GOOD, BAD, MANY, POUND = "good", "bad", "many", "pound"

_CONTRACT = Path(__file__).resolve().parents[3] / "contracts" / "orders.yaml"
#: The shipped contract's columns and rules that the stories need. Each rule is a check of every
#: run, and Dagster's part in a check costs more than the rule.
_COLUMNS = tuple(HEADER.split(","))
_RULES = ("has_rows",)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a contract of a scenario differs from the shipped one."""

    version: str = "1.0.0"
    names: str = "[a-z]"
    most: int = 1000
    currencies: tuple[str, ...] = ("EUR", "GBP")


CONTRACTS: Mapping[str, Terms] = {
    "shipped": Terms(),
    # Refuses files `a`, and more than five pieces of anything.
    "stricter": Terms(version="1.1.0", names="[b-z]", most=5),
    # Wrong: refuses files `c`, and pounds.
    "wrong": Terms(version="0.9.0", names="[abd-z]", currencies=("EUR",)),
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What must have become of one version of a file.

    Attributes:
        state: The ledger's word for it.
        diverted: Notes of its rows that are in row quarantine, where it is published.
        released: Whether it has been in file quarantine and has left it, marked.
        recorded: Whether file quarantine has a record of it; None goes by the state.
    """

    state: str
    diverted: tuple[str, ...] = ()
    released: bool = False
    recorded: bool | None = None


PUBLISHED = Fate("published")
PARTIAL = Fate("published", diverted=(BAD,))
REFUSED = Fate("quarantined")
SUPERSEDED = Fate("superseded")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story.

    Attributes:
        since: The scenario at whose end this one begins; None for an empty cloud.
        setup: What is then done beforehand, undisturbed.
        play: What is killed, and done again.
        fates: By file and number of its version, from 1, such as `a.1`.
        replays: Ids of the replays that must have come to their end, once.
        rolled_back: How many batches must have been rolled back.
    """

    name: str
    since: str | None
    setup: Sequence[Json]
    play: Sequence[Json]
    fates: Mapping[str, Fate]
    replays: Sequence[str] = ()
    rolled_back: int = 0

    @property
    def expected(self) -> Json:
        """What the oracle is told."""
        return {
            "fates": {name: asdict(fate) for name, fate in self.fates.items()},
            "replays": list(self.replays),
            "rolled_back": self.rolled_back,
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the scenarios take place: two partitions, and folders with contracts."""

    contracts: Path
    earlier: str
    later: str

    @classmethod
    def at(cls, folder: Path) -> Stage:
        """Write the contracts; the partitions are yesterday and today."""
        for name, terms in CONTRACTS.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "orders.yaml").write_text(_contract(terms))
        now = datetime.now(UTC)
        return cls(folder, f"{now - timedelta(days=1):%Y-%m-%d}", f"{now:%Y-%m-%d}")

    def key(self, file: str) -> str:
        """`a` and `b` lie in the earlier partition, the others in the later."""
        partition = self.earlier if file in "ab" else self.later
        return f"orders/dt={partition}/orders_{file}.csv"

    def under(self, contract: str, do: str, **rest: Any) -> Json:
        return {"do": do, "contracts": str(self.contracts / contract), **rest}

    def land(self, file: str, text: str) -> Json:
        return {"do": "put", "zone": "raw", "key": self.key(file), "text": text}

    def settle(self, contract: str = "shipped", sensors: Sequence[str] = ARRIVALS) -> Json:
        return self.under(contract, "settle", sensors=list(sensors))

    def command(self, *args: str, contract: str = "shipped") -> Json:
        return self.under(contract, "command", args=list(args))


def scenarios(stage: Stage) -> list[Scenario]:
    """All of them; each after the one that it begins at the end of."""
    bootstrap: Json = {"do": "bootstrap"}
    landed = [stage.land(file, text) for file, text in _FILES.items()]
    first = {"a.1": PUBLISHED, "b.1": PARTIAL, "c.1": PUBLISHED, "d.1": REFUSED}
    both = [*ARRIVALS, *REPLAYS]
    return [
        Scenario("landed", None, [bootstrap, *landed], [], {}),
        Scenario("path", "landed", [], [stage.settle()], first),
        Scenario(
            "replay",
            "path",
            [],
            [
                stage.command(
                    *("replay", "--dataset", DATASET, "--partitions"),
                    *(f"{stage.earlier}..{stage.later}", "--force"),
                    *("--reason", "a fix of code", "--id", "r-all"),
                ),
                stage.settle(sensors=both),
            ],
            first,
            replays=("r-all",),
        ),
        Scenario(
            "supersede",
            "path",
            [
                stage.land("a", _text(range(2, 8), version=2)),
                stage.land("b", _text(range(20, 38), version=2)),
                stage.land("b", _text(range(22, 40), version=3, bad=[23])),
                stage.land("d", _text(range(60, 66), version=2)),
            ],
            [stage.settle()],
            {
                **{"a.1": SUPERSEDED, "a.2": PUBLISHED, "b.1": SUPERSEDED, "b.2": SUPERSEDED},
                **{"b.3": PARTIAL, "c.1": PUBLISHED, "d.1": REFUSED, "d.2": PUBLISHED},
            },
        ),
        Scenario(
            "backfill",
            "path",
            [],
            [
                stage.under("stricter", "backfill", id="backfill-1", partition=stage.earlier),
                stage.under("stricter", "backfill", id="backfill-1", partition=stage.later),
                stage.settle("stricter", both),
            ],
            {
                "a.1": REFUSED,
                "b.1": Fate("published", diverted=(BAD, MANY)),
                "c.1": Fate("published", diverted=(MANY,)),
                "d.1": REFUSED,
            },
        ),
        Scenario(
            "rollback",
            "path",
            [
                stage.command(
                    *("replay", "--dataset", DATASET, "--partition", stage.earlier),
                    *("--reason", "a stricter contract", "--id", "r-strict"),
                    contract="stricter",
                ),
                stage.settle("stricter", REPLAYS),
                stage.land("e", _text(range(70, 76))),
                stage.land("c", _text(range(40, 48), version=2)),
                stage.settle(),
                stage.land("f", _text(range(80, 86))),
                stage.settle(),
            ],
            [
                stage.command(
                    *("rollback", "--dataset", DATASET, "--replay", "r-strict"),
                    *("--reason", "it was wrong"),
                ),
                stage.under("shipped", "rollback_of", key=stage.key("e"), args=[]),
                stage.settle(sensors=both),
            ],
            {
                # Its record stays, as all that was ever refused; the ledger has it back.
                "a.1": Fate("published", recorded=True),
                **{"b.1": PARTIAL, "c.1": PUBLISHED, "d.1": REFUSED},
                **{"c.2": Fate("rolled_back"), "e.1": Fate("rolled_back"), "f.1": PUBLISHED},
            },
            replays=("r-strict",),
            rolled_back=2,
        ),
        Scenario(
            "release",
            "landed",
            [stage.settle("wrong")],
            [
                stage.command(
                    *("quarantine", "release", "--dataset", DATASET),
                    *("--reason-code", "NAME_PATTERN", "--reason-code", "NOT_ALLOWED"),
                    *("--reason", "the contract is mended", "--id", "r-free"),
                ),
                stage.settle(sensors=both),
            ],
            {
                **{"a.1": PUBLISHED, "b.1": PARTIAL, "d.1": REFUSED},
                "c.1": Fate("published", released=True),
            },
            replays=("r-free",),
        ),
        Scenario(
            "leftovers",
            "path",
            _strays(stage),
            [
                {
                    **stage.under("shipped", "job", name="leftovers"),
                    "environment": {"LAKEGATE_LEFTOVER_DAYS": "0"},
                }
            ],
            first,
        ),
    ]


def _contract(terms: Terms) -> str:
    document = yaml.safe_load(_CONTRACT.read_text())
    orders = document["schema"][0]
    columns = {c["name"]: c for c in orders["properties"] if c["name"] in _COLUMNS}
    orders["properties"] = [columns[name] for name in _COLUMNS]
    orders["quality"] = [rule for rule in orders["quality"] if rule["name"] in _RULES]
    columns["quantity"]["logicalTypeOptions"]["maximum"] = terms.most
    columns["currency"]["quality"][0]["arguments"]["validValues"] = list(terms.currencies)
    document["version"] = terms.version
    for extra in document["customProperties"]:
        if extra["property"] == "landing":
            extra["value"]["fileNamePattern"] = rf"orders_{terms.names}\.csv"
    return str(yaml.safe_dump(document, sort_keys=False))


def _text(
    numbers: Sequence[int],
    *,
    version: int = 1,
    bad: Sequence[int] = (),
    malformed: Sequence[int] = (),
    many: Sequence[int] = (),
    pound: Sequence[int] = (),
) -> str:
    """A file of orders. The amount tells the versions of a file apart."""
    lines = [HEADER]
    for n in numbers:
        note = GOOD
        note = BAD if n in bad or n in malformed else note
        note = MANY if n in many else note
        note = POUND if n in pound else note
        amount = "ten" if n in bad else f"{10 + version}.{n:02d}"
        currency, quantity = "GBP" if n in pound else "EUR", 9 if n in many else 2
        line = f"O{n:09d},{amount},{currency},{quantity},{note}"
        # Too many fields: a row without a shape, which ends in row quarantine unparsed.
        lines.append(line + ",," if n in malformed else line)
    return "\n".join([*lines, ""])


_FILES = {
    "a": _text(range(0, 6)),
    "b": _text(range(20, 40), bad=[23], malformed=[31], many=[25], pound=[27]),
    "c": _text(range(40, 48), many=[45]),
    "d": _text(range(60, 66)).replace("amount,", "", 1),
}


def _strays(stage: Stage) -> list[Json]:
    """What attempts that died may have left: nothing names it."""
    nobody = "0" * 32
    attempt = "00000000-0000-0000-0000-000000000000-0"
    place = f"{DATASET}/{stage.earlier}/{nobody}"
    return [
        {"do": "put", "zone": zone, "key": key, "text": "stray"}
        for zone, key in (
            ("curated", f"{place}/{attempt}/part-00000.parquet"),
            ("quarantine", f"{DATASET}/rows/{stage.earlier}/{nobody}/{attempt}/part-00000.parquet"),
        )
    ]
