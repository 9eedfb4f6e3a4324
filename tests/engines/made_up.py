"""Made-up contracts and tables: documents that load, and cells that nearly are what they ask for.

Half of what is interesting lies next to what is right, so a cell is mostly a spelling of its
column's type, sometimes one that was spoiled, sometimes one of the corpus, sometimes any text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from service_core.contract.model import Contract
from service_core.contract.problem import ContractError
from tests.engines.documents import column, expression, figure, library, load
from tests.engines.engines import ENGINES
from tests.engines.spellings import corpus

#: Long enough to see what happens to long texts, short enough for a table of them.
_CORPUS = [text for text in corpus() if len(text) <= 600]
_SPOILS = [
    " ",
    "\t",
    "\n",
    "\x00",
    "+",
    "-",
    "0",
    ".",
    ",",
    "e",
    "Z",
    "T",
    "٣",
    "🙂",
    "\u00a0",
    "x",
]
_WORDS = [
    "a",
    "A",
    "b",
    "B ",
    " b",
    "ß",
    "é",
    "e\u0301",
    "n/a",
    "-",
    "ab",
    "AB12",
    "x@y",
    "\x00",
    "a\n",
]


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A contract's document, what is landed under it, and the engine that is compared."""

    document: Mapping[str, Any]
    files: Mapping[str, list[dict[str, Any]]]
    published: Mapping[str, list[dict[str, Any]]]
    part_rows: int | None
    group_rows: int | None
    engine: str

    def load(self, folder: Path) -> Contract:
        """The contract; an example whose document is refused is passed over."""
        try:
            return load(folder, **self.document)
        except ContractError:
            assume(False)
            raise


# --- Spellings -----------------------------------------------------------------------------------


def _decimals(places: int) -> st.SearchStrategy[str]:
    least = -(10**9)
    return st.decimals(least, 10**9, places=places, allow_nan=False).map(lambda d: format(d, "f"))


def _written(moment: datetime) -> str:
    return moment.isoformat()


_SPELLED: Mapping[str, st.SearchStrategy[str]] = {
    "string": st.one_of(st.sampled_from(_WORDS), st.text(max_size=12)),
    "integer": st.one_of(st.integers(-5, 20), st.integers(-(2**63), 2**63 - 1)).map(str),
    "decimal": _decimals(2),
    "decimal_whole": st.integers(-(10**38) + 1, 10**38 - 1).map(str),
    "decimal_wide": _decimals(10),
    "decimal_fraction": st.decimals(0, Decimal("0.9"), places=38).map(lambda d: format(d, "f")),
    "double": st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), _decimals(3)),
    "double_special": st.one_of(st.floats().map(repr), st.sampled_from(["NaN", "-Infinity", "-0"])),
    "boolean": st.sampled_from(["true", "false", "TRUE", "False"]),
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)).map(date.isoformat),
    "time": st.times().map(time.isoformat),
    "timestamp": st.datetimes().map(_written),
    "instant": st.builds(
        lambda moment, offset: _written(moment) + offset,
        st.datetimes(),
        st.sampled_from(["Z", "+00:00", "-08:00", "+05:30", "+23:59"]),
    ),
    "json": st.sampled_from(['{"a": 1}', "[]", "null", '"x"', " [1.10] ", '{"é": "🙂"}', "1e5"]),
}


def _cells(of_type: str) -> st.SearchStrategy[str | None]:
    right = _SPELLED[of_type]
    # Few values, so that some of them repeat.
    few = st.sampled_from(
        {
            "integer": ["1", "2", "+1", "03"],
            "string": ["a", "b", "B ", "A"],
            "boolean": ["true", "false"],
            "double_special": ["0", "-0.0", "1e0", "1", "NaN"],
            "instant": ["2026-11-21T10:00:00Z", "2026-11-21 11:00:00+01:00"],
        }.get(of_type, ["1", "0", "2026-11-21", "10:00:00"])
    )
    spoiled = st.builds(
        lambda text, spoil, place: (
            text[: place % (len(text) + 1)] + spoil + text[place % (len(text) + 1) :]
        ),
        right,
        st.sampled_from(_SPOILS),
        st.integers(0, 30),
    )
    return st.one_of(
        right, few, few, right, spoiled, st.sampled_from(_CORPUS), st.none(), st.text(max_size=5)
    )


# --- Contracts -----------------------------------------------------------------------------------

_BOUNDS: Mapping[str, tuple[Any, Any]] = {
    "integer": (0, 100),
    "decimal": (0, 1000.5),
    "decimal_whole": (-1, 10),
    "decimal_wide": (-0.5, 100),
    "double": (0, 1e6),
    "double_special": (-1, 1e300),
    "date": ("1582-10-15", "2026-12-31"),
    "time": ("08:00:00", "18:00:00.5"),
    "timestamp": ("1900-01-01T00:00:00", "2026-12-31T00:00:00"),
    "instant": ("1900-01-01T00:00:00Z", "2026-12-31T00:00:00Z"),
}
_PATTERNS = ["^[A-Za-z]+$", "^.{0,3}$", "^[^ ]*$", "^(a|b|B )$"]


@st.composite
def _column(draw: st.DrawFn, name: str) -> tuple[str, dict[str, Any]]:
    of_type = draw(st.sampled_from(list(_SPELLED)))
    often, seldom = st.booleans(), st.integers(0, 5).map(lambda n: n == 0)
    made: dict[str, Any] = {}
    if draw(seldom):
        made["required"] = True
    if draw(seldom):
        made["classification"] = "personal"
    if of_type != "json" and draw(seldom):
        made["unique"] = True
    if draw(seldom):
        made["trim"] = True
    if draw(seldom):
        made["case"] = draw(st.sampled_from(["upper", "lower"]))
    if of_type in _BOUNDS and draw(often):
        low, high = _BOUNDS[of_type]
        made |= draw(
            st.sampled_from(
                [
                    {"minimum": low},
                    {"maximum": high},
                    {"minimum": low, "maximum": high},
                    {"exclusiveMinimum": low, "exclusiveMaximum": high},
                ]
            )
        )
        if draw(seldom):
            made["severity"] = {"range": "warning"}
    if of_type == "string":
        made |= draw(
            st.sampled_from(
                [
                    {},
                    {},
                    {"minLength": 1, "maxLength": 4},
                    {"maxLength": 2, "severity": {"length": "warning"}},
                    *({"pattern": pattern} for pattern in _PATTERNS),
                ]
            )
        )
        if draw(seldom) and "case" not in made and "trim" not in made:
            allowed = {"validValues": ["a", "b", "AB12", "é"]}
            made["quality"] = [{"metric": "invalidValues", "arguments": allowed, "mustBe": 0}]
    return of_type, column(name, of_type, **made)


def _rules(columns: Mapping[str, str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Set rules and expressions that these columns can have."""
    some: list[dict[str, Any]] = [
        library("rows", "rowCount", mustBeGreaterThan=2),
        library("rows", "rowCount", mustBeLessThan=12, scope="source_object"),
    ]
    for name, of_type in columns.items():
        some += [
            library(f"{name}_twice", "duplicateValues", arguments={"properties": [name]},
                    mustBeLessThan=3),
            figure(f"{name}_values", "distinctCount", name, mustBeGreaterThan=1),
            expression(f"{name}_given", f"{name} IS NOT NULL"),
        ]  # fmt: skip
        if of_type in ("integer", "decimal", "decimal_wide", "double", "double_special"):
            some += [
                figure(f"{name}_sum", "sum", name, mustBeGreaterThan=0),
                expression(f"{name}_small", f"{name} < 50 OR {name} > 60"),
            ]
        if of_type in ("date", "timestamp", "instant"):
            some.append(figure(f"{name}_age", "freshness", name, mustBeGreaterThan=0))
    varied = st.builds(
        lambda rule, severity, scope: {
            **rule,
            "severity": severity,
            **(
                {"customProperties": [{"property": "scope", "value": scope}]}
                if "expression" not in rule.get("implementation", {})
                else {}
            ),
        },
        st.sampled_from(some),
        st.sampled_from(["warning", "warning", "error"]),
        st.sampled_from(["both", "batch", "source_object"]),
    )
    return st.lists(varied, max_size=4, unique_by=lambda rule: rule["name"])


_DERIVED: Mapping[str, tuple[str, str]] = {
    "integer": ("double", "100 / {}"),
    "decimal": ("decimal_wide", "{} * 3"),
    "double": ("double", "{} * {}"),
    "date": ("boolean", "{} > DATE '2000-01-01'"),
    "instant": ("date", "CAST({} AS DATE)"),
    "string": ("integer", "LENGTH({})"),
}


@st.composite
def batches(draw: st.DrawFn) -> MadeUp:
    """A contract, files under it, and what its partition holds already."""
    named = [draw(_column(f"c{place}")) for place in range(draw(st.integers(1, 6)))]
    types = {made["name"]: of_type for of_type, made in named}
    columns = [made for _, made in named]
    keyed = [name for name, of_type in types.items() if of_type != "json"]
    for name in draw(st.sampled_from([[], [], keyed[:1], keyed[-2:]])):
        next(made for made in columns if made["name"] == name)["primaryKey"] = True
    for name, of_type in list(types.items()):
        if of_type in _DERIVED and draw(st.integers(0, 3)) == 0:
            result, sql = _DERIVED[of_type]
            sql = sql.format(name, name)
            columns.append(column(f"{name}_derived", result, transformLogic=sql))
    of_file = st.fixed_dictionaries({name: _cells(of_type) for name, of_type in types.items()})
    rows = st.lists(of_file, min_size=1, max_size=12)
    names = ["b", "a", "c", "d"]
    form = draw(st.sampled_from(["jsonl", "parquet"]))
    policies = ["allow", "keep_aside", "quarantine_rows", "quarantine_rows", "quarantine_file"]
    document = {
        "columns": columns,
        "quality": draw(_rules(types)),
        "format": {"type": form, "compression": "none"},
        "dialect": {"nullValues": draw(st.sampled_from([[""], [], ["", "-", "n/a"]]))},
        "drift": {"type": draw(st.sampled_from(policies))},
        "tolerance": {"divertedShare": draw(st.sampled_from([1, 1, 0.5, 0.2, 0]))},
        "publication": {"mode": draw(st.sampled_from(["replace", "append"]))},
    }
    landed = {f"{name}.{form}": draw(rows) for name in names[: draw(st.integers(1, 4))]}
    before = {f"{name}.{form}": draw(rows) for name in draw(st.sampled_from(["", "", "a", "bz"]))}
    # Rows of one file that come again in another.
    for name in landed:
        other = draw(st.sampled_from([*landed.values(), *before.values()]))
        landed[name] = landed[name] + draw(st.sampled_from([[], other[:2]]))
    cut = draw(st.sampled_from([(None, None), (1, None), (3, 2), (10, 3)]))
    engine = draw(st.sampled_from([name for name in ENGINES if name != "in_process"]))
    return MadeUp(document, landed, before, *cut, engine)
