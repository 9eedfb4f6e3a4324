"""Loading contracts: a whole contract or all that is wrong with it, never a part of one.

The standard's schema judges first, then our own reading of what it leaves open; both record what
they find and go on, so that one round of mending is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from service_core.contract.checks import unique_check_name
from service_core.contract.columns import ReadColumn, read_columns
from service_core.contract.document import Node, read_document
from service_core.contract.fields import Fields, custom_properties
from service_core.contract.identity import meaning_hash
from service_core.contract.keys import CONTRACT_PROPERTIES
from service_core.contract.landing import read_drift, read_format, read_landing, read_pace
from service_core.contract.model import (
    Contract,
    Engine,
    Processing,
    PublicationMode,
    RowRule,
    SetRule,
)
from service_core.contract.problem import ContractError, Problem, Problems, shown
from service_core.contract.rule import Rules
from service_core.contract.rules import read_rules
from service_core.contract.standard import check_standard

API_VERSION = "v3.1.0"
SUFFIXES = (".yaml", ".yml")

_DATASET = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_SLA_UNITS = {
    "s": "seconds", "second": "seconds", "seconds": "seconds",
    "m": "minutes", "min": "minutes", "minute": "minutes", "minutes": "minutes",
    "h": "hours", "hour": "hours", "hours": "hours",
    "d": "days", "day": "days", "days": "days",
    "w": "weeks", "week": "weeks", "weeks": "weeks",
}  # fmt: skip


def load_contract(path: str | Path) -> Contract:
    """One contract from its file.

    Raises:
        ContractError: it cannot be used; `problems` holds everything that is wrong with it.
    """
    contract, problems = _read(Path(path))
    if contract is None or problems:
        raise ContractError(problems)
    return contract


def load_contracts(folder: str | Path) -> tuple[Contract, ...]:
    """Every contract of a folder (`*.yaml` and `*.yml`), by data set.

    Raises:
        ContractError: one of them cannot be used, two of them claim one data set or prefix, or
            there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ContractError([Problem(folder, 1, "There is no such folder of contracts.")])
    contracts, problems = _read_all(contract_files(folder))
    if problems:
        raise ContractError(problems)
    return tuple(sorted(contracts, key=lambda contract: contract.dataset))


def check_contracts(paths: Iterable[str | Path]) -> list[Problem]:
    """Every problem of contract files, and those between them; a folder stands for its files."""
    files: list[Path] = []
    for path in map(Path, paths):
        files += contract_files(path) if _is_folder(path) else [path]
    # A file named twice is no clash with itself.
    return _read_all(list(dict.fromkeys(files)))[1]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # Such as a name that is too long; reading it says so.
        return False


def contract_files(folder: Path) -> list[Path]:
    """The contract files directly in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())


def _read_all(paths: Sequence[Path]) -> tuple[list[Contract], list[Problem]]:
    contracts: list[Contract] = []
    problems: list[Problem] = []
    for path in paths:
        contract, found = _read(path)
        problems += found
        if contract is not None:
            contracts.append(contract)
    return contracts, problems + _clashes(contracts)


def _clashes(contracts: Sequence[Contract]) -> list[Problem]:
    """Contracts that could claim the same object or the same table."""
    problems = []
    for place, this in enumerate(contracts):
        for other in contracts[:place]:
            if this.dataset == other.dataset:
                problems.append(
                    Problem(
                        this.path,
                        1,
                        f"The data set {shown(this.dataset)} has another contract in {other.path}; "
                        "rename one.",
                    )
                )
            mine, theirs = this.landing.prefix, other.landing.prefix
            if mine.startswith(theirs) or theirs.startswith(mine):
                same = "is also that of" if mine == theirs else f"and {shown(theirs)} overlap:"
                problems.append(
                    Problem(
                        this.path,
                        1,
                        f"landing.prefix {shown(mine)} {same} {shown(other.dataset)} "
                        f"({other.path}), so that a file could belong to both; give each data set "
                        "a prefix of its own.",
                    )
                )
    return problems


def _read(path: Path) -> tuple[Contract | None, list[Problem]]:
    problems = Problems(path)
    root = read_document(path, problems)
    contract = None
    if root is not None:
        check_standard(root, problems)
        contract = _build(root, path, problems)
    return contract, problems.sorted()


def _build(root: Node, path: Path, problems: Problems) -> Contract | None:
    fields = Fields(root, "", problems)
    _, custom = custom_properties(fields, CONTRACT_PROPERTIES, "")
    landing = read_landing(custom)
    form = read_format(custom)
    drift = read_drift(custom)
    freshness = _freshness(fields)
    pace = read_pace(custom, freshness)
    table, table_line = _only_schema(fields, problems)
    read = (
        read_columns(table.node("properties"), form, problems, table_line)
        if table is not None
        else ()
    )
    rules = _read_all_rules(table, read, Rules(problems, form, read))
    engine = custom.fields("engine", CONTRACT_PROPERTIES["engine"])
    publication = custom.fields("publication", CONTRACT_PROPERTIES["publication"])
    processing = custom.word("processing", Processing.ETL)
    columns = tuple(r.column for r in read)
    row_rules = _in_order(read, rules)
    if processing is Processing.ELT:
        _refuse_rules_of_elt(read, rules, problems)
        row_rules = ()
    dataset = _dataset(fields)
    version = _api_version(fields)
    if landing is None or problems:
        return None
    contract = Contract(
        dataset=dataset,
        version=version,
        hash="",
        path=path,
        landing=landing,
        format=form,
        columns=columns,
        row_rules=row_rules,
        set_rules=tuple(rules.sets),
        drift=drift,
        publication=publication.word("mode", PublicationMode.REPLACE),
        processing=processing,
        engine=engine.word("name", Engine.AUTO),
        engine_threshold_bytes=engine.size("sizeThresholdBytes", 5 * 1024**3),
        tolerated_share=_tolerated_share(custom),
        owner=_owner(fields),
        producer=custom.text("producer"),
        freshness=freshness,
        pace=pace,
        description=_description(fields),
        tags=fields.texts("tags"),
    )
    return replace(contract, hash=meaning_hash(contract), text=root.text)


def _dataset(fields: Fields) -> str:
    fields.required("name", "the data set's name, such as `orders`")
    name = fields.text("name")
    if name and _DATASET.match(name) is None:
        fields.problems.add(
            fields.line_of("name"),
            f"The data set's name {shown(name)} must be at most 64 lower-case letters, digits and "
            "`_`, beginning with a letter; rename it.",
        )
    return name


def _api_version(fields: Fields) -> str:
    api = fields.node("apiVersion")
    if api is not None and api.value != API_VERSION:
        fields.problems.add(
            api.line,
            f"apiVersion {shown(api.text)} is not read; write {API_VERSION}, after checking the "
            "file against that version of the standard.",
        )
    version = fields.text("version")
    given = fields.node("version")
    if given is not None and isinstance(given.value, str) and not version.strip():
        fields.problems.add(fields.line_of("version"), "The version is empty; write one.")
    return version


def _only_schema(fields: Fields, problems: Problems) -> tuple[Fields | None, int]:
    node = fields.node("schema")
    if node is None or len(node.sequence) != 1:
        if node is None or not node.suspect:
            problems.add(
                node.line if node is not None else fields.line,
                "`schema` must hold exactly one object, the data set's; a second data set has a "
                "contract of its own.",
            )
        return None, fields.line
    table = Fields(node.sequence[0], "schema[0]", problems)
    custom_properties(table, {}, "schema[0]") if "customProperties" in table else None
    if "relationships" in table:
        problems.add(
            table.line_of("relationships"),
            "schema[0].relationships cannot be executed; say it in the description.",
        )
    return table, table.line


def _read_all_rules(table: Fields | None, read: tuple[ReadColumn, ...], rules: Rules) -> Rules:
    for column in read:
        for rule in column.rules:
            rules.claim(rule.name, column.column.line)
    keys = [tuple(r.column.name for r in _keyed(read))]
    keys += [(r.column.name,) for r in read if r.column.unique]
    for key in dict.fromkeys(key for key in keys if key):
        line = next(r.column.line for r in read if r.column.name == key[0])
        rules.claim(unique_check_name(key), line)
    for column in read:
        read_rules(column.fields, column, rules)
    if table is not None:
        read_rules(table, None, rules)
    return rules


def _keyed(read: tuple[ReadColumn, ...]) -> list[ReadColumn]:
    keyed = [r for r in read if r.column.primary_key is not None]
    return sorted(keyed, key=lambda r: r.column.primary_key or 0)


def _in_order(read: tuple[ReadColumn, ...], rules: Rules) -> tuple[RowRule, ...]:
    """Implied rules and allowed values column by column, then the expressions."""
    ordered: list[RowRule] = []
    for column in read:
        ordered += column.rules
        ordered += [rule for rule in rules.allowed if rule.columns[0] == column.column.name]
    return (*ordered, *rules.custom)


def _refuse_rules_of_elt(read: tuple[ReadColumn, ...], rules: Rules, problems: Problems) -> None:
    """An ELT contract stops at validated text, so that nothing would carry out its rules."""
    advice = "which an ELT contract does not carry out; leave it to the SQL downstream"
    declared: list[RowRule | SetRule] = [*rules.allowed, *rules.custom, *rules.sets]
    for rule in declared:
        problems.add(rules.lines[rule.name], f"The rule {shown(rule.name)} is one {advice}.")
    for column in read:
        name = shown(column.column.name)
        if column.column.derived is not None:
            problems.add(column.column.line, f"Column {name} is derived, {advice}.")
        if column.column.unique or column.column.primary_key is not None:
            problems.add(column.column.line, f"Column {name} is part of a key, {advice}.")
        for rule in column.rules:
            if not rule.name.endswith(("_type", "_required")):
                problems.add(column.column.line, f"The rule {shown(rule.name)} is one {advice}.")


def _tolerated_share(custom: Fields) -> float:
    fields = custom.fields("tolerance", CONTRACT_PROPERTIES["tolerance"])
    node = fields.node("divertedShare")
    if node is None:
        return 1.0
    value = node.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    fields.wrong("divertedShare", "a share of a file's rows from 0 to 1, such as 0.2")
    return 1.0


def _owner(fields: Fields) -> str:
    """The address of the team's owner, else `team:` and the team's name."""
    team = fields.fields("team")
    members = team.node("members")
    for member in members.sequence if members is not None else ():
        who = Fields(member, "team.members", fields.problems)
        if who.text("role").lower() == "owner":
            return who.text("username")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", team.text("name")).strip("-")
    return f"team:{name}" if name else ""


def _freshness(fields: Fields) -> timedelta | None:
    node = fields.node("slaProperties")
    found: timedelta | None = None
    for item in node.sequence if node is not None else ():
        sla = Fields(item, "slaProperties", fields.problems)
        if sla.text("property") not in ("freshness", "latency"):
            continue
        value, unit = sla.node("value"), _SLA_UNITS.get(sla.text("unit", "hours").lower())
        amount = value.value if value is not None else None
        if found is not None:
            fields.problems.add(item.line, "Freshness is promised twice; keep one of the two.")
        elif isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount <= 0:
            sla.wrong("value", "a number above 0")
        elif unit is None:
            fields.problems.add(
                sla.line_of("unit"),
                f"slaProperties: {shown(sla.text('unit'))} is no unit of time that is known; write "
                "`minutes`, `hours` or `days`.",
            )
        else:
            try:
                found = timedelta(**{unit: amount})
            except OverflowError:
                sla.wrong("value", "a time that is not longer than a century")
    return found


def _description(fields: Fields) -> str:
    description = fields.fields("description")
    parts = (description.text(key).strip() for key in ("purpose", "usage", "limitations"))
    return " ".join(part for part in parts if part)
