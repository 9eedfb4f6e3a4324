"""What a contract file may say, and the sentence that each mistake is answered with."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from service_core.contract import (
    CheckKind,
    Contract,
    ContractError,
    check_contracts,
    check_names,
    load_contract,
    load_contracts,
)
from service_core.contract.model import (
    Case,
    Compression,
    DriftPolicy,
    Engine,
    Expectation,
    FileFormat,
    FilePolicy,
    Grain,
    Holds,
    LengthWithin,
    LogicalType,
    Matches,
    Metric,
    Normalisation,
    OneOf,
    Processing,
    PublicationMode,
    Required,
    SetScope,
    Typed,
    Unit,
    Within,
)
from service_core.reasons import ReasonCode, Severity

PARCELS = """\
apiVersion: v3.1.0
kind: DataContract
id: parcels-contract
name: parcels
version: 1.0.0
status: active
schema:
  - name: parcels
    properties:
      - name: parcel_id
        logicalType: string
        primaryKey: true
        logicalTypeOptions:
          pattern: "^P[0-9]+$"
      - name: weight
        logicalType: number
        physicalType: decimal(8,3)
        logicalTypeOptions:
          minimum: 0
          maximum: 50
      - name: pieces
        logicalType: integer
      - name: service
        logicalType: string
        customProperties:
          - property: case
            value: upper
        quality:
          - metric: invalidValues
            arguments:
              validValues: [AIR, SEA]
            mustBe: 0
      - name: sent_on
        logicalType: date
      - name: grams
        logicalType: number
        physicalType: decimal(12,3)
        transformLogic: weight * 1000
    quality:
      - name: has_rows
        metric: rowCount
        mustBeGreaterThan: 0
      - name: heavy_goes_by_sea
        type: custom
        engine: lakegate
        implementation:
          expression: weight < 40 OR service = 'SEA'
customProperties:
  - property: landing
    value:
      prefix: parcels/
      partitionPath: dt=%Y-%m-%d
      firstPartition: "2026-01-01"
      fileNamePattern: parcels_.*\\.csv
  - property: format
    value:
      type: csv
"""

EXPRESSION = "weight < 40 OR service = 'SEA'"
IMPLEMENTATION = "          expression: " + EXPRESSION
PATTERN = 'pattern: "^P[0-9]+$"'
MINIMUM = "          minimum: 0"
FORMAT = "type: csv\n"


def parcels(*changes: tuple[str, str]) -> str:
    """The contract above with parts of its text replaced."""
    text = PARCELS
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must stand once in the contract"
        text = text.replace(old, new)
    return text


def loaded(tmp_path: Path, *changes: tuple[str, str]) -> Contract:
    path = tmp_path / "parcels.yaml"
    path.write_text(parcels(*changes), encoding="utf-8")
    return load_contract(path)


def custom(name: str, value: str) -> tuple[str, str]:
    """A change that adds a contract property."""
    return (
        "customProperties:\n  - property: landing",
        (f"customProperties:\n  - property: {name}\n    value: {value}\n  - property: landing"),
    )


def column(extra: str) -> tuple[str, str]:
    """A change that adds lines to the column `sent_on`."""
    return ("        logicalType: date\n", f"        logicalType: date\n        {extra}\n")


# --- What is wrong with it -----------------------------------------------------------------------

#: What to replace, with what, a text on the line named, and a part of the sentence.
MISTAKES = [
    # the standard
    ("status: active", "statuz: active", "statuz", "Did you mean `status`?"),
    ("status: active", "state: active", "apiVersion", "lacks `status`"),
    ("version: 1.0.0", "version: 1.0", "version: 1.0", "put quotes around it"),
    ("version: 1.0.0", 'version: " "', "version:", "The version is empty"),
    ("kind: DataContract", "kind: Contract", "kind:", "it is `DataContract`"),
    ("apiVersion: v3.1.0", "apiVersion: v3.0.2", "apiVersion", "write v3.1.0"),
    ("apiVersion: v3.1.0", "apiVersion: v9", "apiVersion", "write v3.1.0"),
    ("name: parcels\nversion", "name: Parcels\nversion", "name: Parcels", "lower-case letters"),
    ("name: parcels\nversion", "version", "apiVersion", "lacks `name`"),
    ("status: active", "status: active\nserver: x", "server: x", "Did you mean `servers`?"),
    ("status: active", "status: active\nteam: [a]", "team:", "team must be a mapping"),
    (
        "status: active",
        "status: active\nslaProperties: [{property: freshness, value: soon}]",
        "slaProperties",
        "must be a number above 0",
    ),
    (
        "status: active",
        "status: active\nslaProperties: [{property: freshness, value: 3, unit: moons}]",
        "slaProperties",
        "is no unit of time",
    ),
    # columns
    ("        primaryKey: true", "        primarykey: true", "primarykey", "mean `primaryKey`?"),
    ("name: sent_on", "name: weight", "name: weight#2", "stands twice (line 15)"),
    ("name: sent_on", "name: Weight", "name: Weight", "beside `weight` (line 15)"),
    ("name: sent_on", "name: _sent", "name: _sent", "begins with `_`"),
    ("name: sent_on", "name: sent on", "name: sent on", "other characters than letters"),
    ("logicalType: date", "logicalType: datum", "datum", "Did you mean `date`?"),
    ("        logicalType: date\n", "", "name: sent_on", "lacks `logicalType`"),
    ("decimal(8,3)", "decimal(3,8)", "decimal(3,8)", "a decimal has 1 to 38 digits"),
    ("decimal(8,3)", "decimal(39,3)", "decimal(39,3)", "a decimal has 1 to 38 digits"),
    ("decimal(8,3)", "money", "money", "must say which"),
    (*column("physicalType: bigint"), "bigint", "does not go with logicalType date"),
    (*column("primaryKeyPosition: 2"), "primaryKeyPosition", "is not in the primary key"),
    (*column("primaryKey: true\n        primaryKeyPosition: 3"), "name: parcel_id", "1, 2, 3"),
    (*column("relationships: [{to: a.b}]"), "relationships", "cannot be executed"),
    (*column("partitioned: true"), "partitioned", "take `partitioned` out"),
    (*column("customProperties: [{property: sourc, value: a}]"), "sourc,", "mean `source`?"),
    (*column("customProperties: [{property: source, value: weight}]"), "sent_on", "has too"),
    (*column("customProperties: [{property: source, value: ''}]"), "source,", "must be the name"),
    (
        *column("customProperties: [{property: allowSpecial, value: true}]"),
        "allowS",
        "only a double",
    ),
    (*column("customProperties: [{property: nullIf, value: ['']}]"), "nullIf", "null in every"),
    (*column("customProperties: [{property: nullIf, value: [7]}]"), "nullIf", "quotes around `7`"),
    (
        "            value: upper",
        "            value: upper\n          - property: nullIf\n            value: [n/a]",
        "[n/a]",
        "is never met",
    ),
    (*column("customProperties: [{property: case, value: up}]"), "case,", "`upper` or `lower`"),
    (*column("customProperties: [{property: trim, value: 1}]"), "trim,", "must be true or false"),
    (
        "logicalType: integer",
        "logicalType: object\n        properties: [{name: x, logicalType: string}]",
        "properties: [",
        "a column of its own",
    ),
    # ranges, lengths, patterns
    (MINIMUM, "          minimun: 0", "minimun", "Did you mean `minimum`?"),
    (MINIMUM, "          minimum: 60", "minimum: 60", "no value lies between 60 and 50"),
    (MINIMUM, "          exclusiveMinimum: 50", "exclusiveM", "no value lies between 50 and 50"),
    (MINIMUM, "          minimum: 0\n          exclusiveMinimum: 1", "exclusiveM", "has both"),
    (MINIMUM, "          minimum: low", "minimum: low", "must be a number"),
    (MINIMUM, "          multipleOf: 5", "multipleOf", "cannot be executed"),
    (MINIMUM, "          pattern: x", "pattern: x", "a pattern or length is for string columns"),
    (
        "logicalType: integer",
        "logicalType: integer\n        logicalTypeOptions: {minimum: 1.5}",
        "1.5",
        "no value of the type integer",
    ),
    (*column('logicalTypeOptions: {minimum: "2026-02-30"}'), "02-30", "no value of the type date"),
    (*column("logicalTypeOptions: {format: dd.MM.yyyy}"), "dd.MM", "docs/types.md"),
    (PATTERN, 'pattern: "^P(?=x)"', "(?=x)", "look-around"),
    (PATTERN, 'pattern: "^P("', "^P(", "unclosed group"),
    (PATTERN, "minimum: 3", "minimum: 3", "a range is for integer"),
    (PATTERN, "minLength: 9\n          maxLength: 3", "minLength", "no text could pass"),
    (
        PATTERN,
        PATTERN + "\n        customProperties: [{property: severity, value: {range: warning}}]",
        "severity",
        "but no range",
    ),
    # allowed values
    ("[AIR, SEA]", "[AIR, air]", "air]", "text is made upper first"),
    ("[AIR, SEA]", "[]", "[]", "a list of at least one value"),
    ("[AIR, SEA]", "AIR", "Values: AIR", "a list of at least one value"),
    ("[AIR, SEA]", "[AIR, AIR]", "AIR, AIR", "stands twice"),
    ("[AIR, SEA]", "[AIR, 7]", "AIR, 7", "put quotes around it"),
    ("[AIR, SEA]", '[AIR, ""]', 'AIR, ""', "also a spelling of null"),
    ("validValues: [AIR, SEA]", "validValue: [AIR, SEA]", "validValue:", "mean `validValues`?"),
    ("validValues: [AIR, SEA]", "pattern: '('", "pattern: '('", "does not compile"),
    (
        *column(
            "quality: [{metric: invalidValues, mustBe: 0,"
            " arguments: {validValues: ['01.02.2026']}}]"
        ),
        "01.02.2026",
        "is no spelling of `sent_on`'s type date",
    ),
    (
        *column("quality: [{metric: invalidValues, arguments: {pattern: x}, mustBe: 0}]"),
        "pattern: x",
        "which is no text but date",
    ),
    # figures
    ("            mustBe: 0\n", "", "metric: invalidValues", "exactly one of `mustBe`"),
    ("            mustBe: 0", "            mustBe: none", "mustBe: none", "must be a number"),
    ("            mustBe: 0", "            mustBeLessThan: 0", "mustBeLessThan", "can never hold"),
    (
        "            mustBe: 0",
        "            mustBeGreaterThan: 100\n            unit: percent",
        "mustBeGreaterThan: 100",
        "can never hold",
    ),
    ("            mustBe: 0", "            mustBe: 0\n            unit: kg", "kg", "`percent`"),
    ("mustBeGreaterThan: 0", "mustBeBetween: [5, 1]", "[5, 1]", "the smaller one first"),
    ("metric: rowCount", "metric: rowCounts", "rowCounts", "Did you mean `rowCount`?"),
    ("metric: rowCount", "metric: nullValues", "nullValues", "to the `quality` of that column"),
    ("metric: rowCount", "metric: duplicateValues", "has_rows", "does not say whose duplicates"),
    (
        "metric: rowCount",
        "metric: duplicateValues\n        arguments: {properties: [parcelid]}",
        "parcelid",
        "Did you mean `parcel_id`?",
    ),
    (*column("quality: [{metric: rowCount, mustBe: 1}]"), "rowCount, m", "speaks of no column"),
    (
        *column("quality: [{metric: missingValues, arguments: {missingValues: [x]}, mustBe: 0}]"),
        "missingValues: [x]",
        "add it to the `nullIf`",
    ),
    (IMPLEMENTATION, "          metric: summ\n          mustBe: 1", "summ", "Did you mean `sum`?"),
    (IMPLEMENTATION, "          metric: sum\n          mustBe: 1", "metric: sum", "of which `col"),
    (
        IMPLEMENTATION,
        "          metric: sum\n          column: service\n          mustBe: 1",
        "column: service",
        "the sum of `service` cannot be had",
    ),
    (
        IMPLEMENTATION,
        "          metric: freshness\n          column: weight\n          mustBeLessThan: 1",
        "column: weight",
        "it takes `date`, `timestamp` or `timestamp_tz`",
    ),
    (
        "metric: rowCount",
        "metric: rowCount\n        customProperties: [{property: scope, value: file}]",
        "scope,",
        "`source_object`, `batch` or `both`",
    ),
    # rules by name and kind
    ("name: has_rows", "name: has rows", "has rows", "write it such as `has_rows`"),
    ("name: has_rows", "name: heavy_goes_by_sea", "name: heavy_goes_by_sea#2", "declared twice"),
    ("name: has_rows", "name: rows_conserved", "rows_conserved", "is built in"),
    ("name: has_rows", "name: weight_type", "weight_type", "declared twice"),
    ("name: has_rows", "name: parcel_id_unique", "_unique", "declared twice"),
    ("metric: rowCount", "metric: rowCount\n        severity: fatal", "fatal", "`warning`"),
    ("metric: rowCount", "metric: rowCount\n        schedule: daily", "schedule", "on every batch"),
    ("type: custom", "type: text", "type: text", "move it to the description"),
    (
        "type: custom",
        "type: sql\n        query: select 1\n        mustBe: 1",
        "type: sql",
        "`expression`",
    ),
    ("engine: lakegate", "engine: soda", "engine: soda", "for engine: lakegate"),
    ("expression: weight", "expresion: weight", "expresion", "Did you mean `expression`?"),
    (
        "      - name: heavy_goes_by_sea\n        type",
        "      - type",
        "type: custom",
        "needs a `name`",
    ),
    # expressions
    (EXPRESSION, "weigth < 40", "weigth", "Did you mean `weight`?"),
    (EXPRESSION, "weight <", "weight <", "does not parse as SQL"),
    (EXPRESSION, "''", "expression:", "it is empty"),
    (EXPRESSION, "weight) < 4 OR (weight = 1", "weight) <", "does not parse as SQL"),
    (EXPRESSION, "SUM(weight) < 40", "SUM", "on each row by itself"),
    (EXPRESSION, "weight < SUM(weight)", "SUM", "Rule `heavy_goes_by_sea`"),
    (EXPRESSION, "weight = FIRST(weight)", "FIRST", "Rule `heavy_goes_by_sea`"),
    (EXPRESSION, "ROW_NUMBER() OVER () < 5", "ROW_N", "looks at other rows"),
    (EXPRESSION, "weight < (SELECT 1)", "SELECT", "looks at other rows"),
    (EXPRESSION, "sent_on < CURRENT_DATE", "CURRENT", "another result each time"),
    (EXPRESSION, "1 = 1", "1 = 1", "on the row's own columns"),
    (EXPRESSION, "weight", "expression:", "not true or false"),
    (EXPRESSION, "CAST(service AS INT) = 1", "CAST", "use TRY_CAST"),
    (EXPRESSION, "weight < '40'", "'40'", "compares a decimal with text"),
    (EXPRESSION, "service ~ '('", "~", "unclosed group"),
    (EXPRESSION, "nosuch(weight)", "nosuch", "unsupported function"),
    ("weight * 1000", "wait * 1000", "wait", "Did you mean `weight`?"),
    ("weight * 1000", "grams * 2", "grams * 2", "names the column `grams`, which is not there"),
    ("weight * 1000", "CAST(weight AS DOUBLE)", "DOUBLE", "does not become decimal without loss"),
    ("weight * 1000", "weight * 0.00001", "0.00001", "does not become decimal without loss"),
    (
        "transformLogic: weight * 1000",
        "transformLogic: weight * 1000\n        customProperties: [{property: trim, value: true}]",
        "trim",
        "cannot have `trim`",
    ),
    # landing
    ("prefix: parcels/", "prefix: parcels", "prefix:", "must end with `/`"),
    ("prefix: parcels/", "prefix: /parcels/", "prefix:", "starts with `/`"),
    ("prefix: parcels/", "prefix: a/../b/", "prefix:", "an empty segment, `.` or `..`"),
    ("prefix: parcels/", "prefix: a//b/", "prefix:", "an empty segment, `.` or `..`"),
    ("prefix: parcels/", "prefix: /", "prefix:", "starts with `/`"),
    ("prefix: parcels/", "prefx: parcels/", "prefx", "Did you mean `prefix`?"),
    ("dt=%Y-%m-%d", "dt=%Y-%m", "partitionPath", "%Y, %m and %d once each"),
    ("dt=%Y-%m-%d", "dt=all", "partitionPath", "%Y, %m and %d once each"),
    ("dt=%Y-%m-%d", "dt=%Y-%m-%d-%M", "partitionPath", "only %Y, %m, %d and %H"),
    ("dt=%Y-%m-%d", "/dt=%Y-%m-%d", "partitionPath", "starts or ends with `/`#"),
    ('"2026-01-01"', '"2026-02-30"', "2026-02-30", "is no day from 1970 on"),
    ('"2026-01-01"', "2026-01-01", "firstPartition", "put quotes around it"),
    ("parcels_.*\\.csv", "'parcels_(.csv'", "fileNamePattern", "does not compile"),
    (
        "      fileNamePattern",
        "      window: -P3D\n      fileNamePattern",
        "window",
        "not negative",
    ),
    ("      fileNamePattern", "      window: P3M\n      fileNamePattern", "window", "fixed length"),
    ("      fileNamePattern", "      maxBytes: ten\n      fileNamePattern", "maxBytes", "`10 MiB`"),
    (
        "      fileNamePattern",
        "      minBytes: 10 MiB\n      maxBytes: 1 MiB\n      fileNamePattern",
        "minBytes",
        "no file could pass",
    ),
    ("      fileNamePattern", "      late: drop\n      fileNamePattern", "late:", "`allow` or"),
    ("      fileNamePattern", "      maxBatchFiles: 0\n      fileNamePattern", "maxBatch", "least"),
    # format and the rest
    (FORMAT, "type: xlsx\n", "xlsx", "`parquet`"),
    (FORMAT, "typ: csv\n", "typ:", "Did you mean `type`?"),
    (*custom("dialect", "{delimiter: ';;'}"), ";;", "exactly one character"),
    (*custom("dialect", "{delimiter: '\"'}"), "delimiter", "also the quote"),
    (*custom("dialect", "{encoding: utf-9}"), "utf-9", "no character encoding"),
    (*custom("dialect", "{encoding: base64}"), "base64", "no character encoding"),
    (*custom("dialect", "{nullValues: [NA, NA]}"), "NA, NA", "twice"),
    (*custom("dialect", "{seperator: ';'}"), "seperator", "dialect has no key"),
    (*custom("tolerance", "{divertedShare: 20}"), "divertedShare", "from 0 to 1"),
    (*custom("tolerence", "{divertedShare: 0.2}"), "tolerence", "Did you mean `tolerance`?"),
    (*custom("drift", "{order: keep_aside}"), "order:", "belongs to the whole file"),
    (*custom("drift", "{missing: keep_aside}"), "missing:", "nothing to keep"),
    (*custom("drift", "{aditive: allow}"), "aditive", "Did you mean `additive`?"),
    (*custom("publication", "{mode: upsert}"), "upsert", "`append` or `replace`"),
    (*custom("engine", "spark"), "value: spark", "must be a mapping of `name`"),
    (*custom("processing", "elt"), "transformLogic#-3", "is derived, which an ELT contract"),
    # YAML itself
    ("[AIR, SEA]", "[AIR, no]", "AIR, no", "is a boolean to some readers"),
    ("        primaryKey: true", "        primaryKey: yes", "primaryKey", "is a boolean to some"),
    ("[AIR, SEA]", "[AIR, 2026-01-01]", "2026-01-01]", "is a date to some readers"),
    (MINIMUM, "          minimum: 007", "007", "leading zeros are octal"),
    (MINIMUM, "          minimum: 1e3", "1e3", "is a number to some readers"),
    (MINIMUM, "          minimum: 1_000", "1_000", "not the same number"),
    (MINIMUM, "          minimum: 12:30", "12:30", "base 60"),
    ("logicalType: date", "logicalType: date\n        logicalType: date", "Type: date#2", "twice"),
    ("status: active", "status: [active", "schema:", "The file is not YAML"),
    ("status: active", "status: *a", "*a", "is not followed"),
    ("status: active", "status: &a active", "&a", "has no use here"),
    ("status: active", "status: !!str active", "!!str", "is not read"),
    ("status: active", "<<: {a: b}\nstatus: active", "<<", "Merge keys"),
    ("status: active", "status: active\n? [a]\n: b", "? [a]", "must be a plain word"),
    ("format\n    value:", "format\n    value:\n---\n", "---", "A second YAML document"),
]


def line_of(text: str, marker: str) -> int:
    """The line on which a text stands; `#2` asks for its second place, `#-3` for lines above."""
    marker, _, which = marker.partition("#")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if marker in line]
    if which.startswith("-"):
        return lines[0] + int(which)
    return lines[int(which or 1) - 1]


@pytest.mark.parametrize(
    ("old", "new", "marker", "part"), MISTAKES, ids=[f"{m[1].strip()[-50:]}" for m in MISTAKES]
)
def test_a_mistake_is_answered_with_its_line_and_a_sentence(
    tmp_path: Path, old: str, new: str, marker: str, part: str
) -> None:
    text = parcels((old, new))
    path = tmp_path / "parcels.yaml"
    path.write_text(text, encoding="utf-8")
    problems = check_contracts([path])
    line = line_of(text, marker)
    part = part.rstrip("#")
    assert [p for p in problems if p.line == line and part in p.sentence], "\n".join(
        [f"expected on line {line}: … {part} …", *map(str, problems)]
    )
    for problem in problems:
        assert problem.sentence[-1] in ".?"
    with pytest.raises(ContractError) as refusal:
        load_contract(path)
    assert refusal.value.problems == problems


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "parcels.yaml"
    path.write_text(
        parcels(
            ("status: active", "statuz: active"),
            ("[AIR, SEA]", "[AIR, no]"),
            ("prefix: parcels/", "prefix: parcels"),
            (EXPRESSION, "weigth < 40"),
            (PATTERN, 'pattern: "("'),
        ),
        encoding="utf-8",
    )
    lines = [problem.line for problem in check_contracts([path])]
    assert lines == sorted(lines)
    assert set(lines) == {1, 6, 14, 31, 47, 51}


def test_a_problem_reads_as_file_line_and_sentence(tmp_path: Path) -> None:
    path = tmp_path / "parcels.yaml"
    path.write_text(parcels(("prefix: parcels/", "prefix: parcels")), encoding="utf-8")
    [problem] = check_contracts([path])
    assert str(problem) == (
        f"{path}:51: landing.prefix `parcels` must end with `/`, as in `parcels/`; correct it."
    )


# --- Between contracts ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["parcels/", "parcels/express/"])
def test_two_data_sets_on_one_prefix_or_inside_of_it_are_refused(
    tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "a.yaml").write_text(PARCELS, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(
        parcels(
            ("name: parcels\nversion", "name: express\nversion"),
            ("prefix: parcels/", f"prefix: {prefix}"),
        ),
        encoding="utf-8",
    )
    with pytest.raises(ContractError, match="could belong to both"):
        load_contracts(tmp_path)


def test_a_prefix_that_only_begins_alike_is_another_prefix(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PARCELS, encoding="utf-8")
    (tmp_path / "b.yml").write_text(
        parcels(
            ("name: parcels\nversion", "name: express\nversion"),
            ("prefix: parcels/", "prefix: parcels_express/"),
        ),
        encoding="utf-8",
    )
    assert [c.dataset for c in load_contracts(tmp_path)] == ["express", "parcels"]


def test_one_data_set_with_two_contracts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PARCELS, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(parcels(("prefix: parcels/", "prefix: b/")), encoding="utf-8")
    with pytest.raises(ContractError, match="has another contract in"):
        load_contracts(tmp_path)


def test_a_file_named_twice_is_no_clash_with_itself(tmp_path: Path) -> None:
    path = tmp_path / "parcels.yaml"
    path.write_text(PARCELS, encoding="utf-8")
    assert check_contracts([path, path, tmp_path]) == []


# --- What is loaded ------------------------------------------------------------------------------


def test_what_a_contract_does_not_say_has_defaults(tmp_path: Path) -> None:
    contract = loaded(tmp_path)
    landing = contract.landing
    assert (landing.grain, landing.window, landing.late) == (
        Grain.DAY,
        timedelta(days=3),
        FilePolicy.ALLOW,
    )
    assert landing.first_partition == date(2026, 1, 1)
    assert landing.file_name.fullmatch("parcels_1.csv")
    assert contract.format.type is FileFormat.CSV
    assert contract.format.compression is Compression.AUTO
    assert contract.format.dialect.null_values == ("",)
    assert contract.publication is PublicationMode.REPLACE
    assert contract.processing is Processing.ETL
    assert contract.engine is Engine.AUTO
    assert contract.tolerated_share == 1.0
    assert contract.drift.additive is DriftPolicy.KEEP_ASIDE
    assert contract.primary_key == ("parcel_id",)
    assert contract.column("parcel_id").required, "a key is required without saying so"
    assert contract.column("weight").source == "weight"
    assert contract.column("weight").line == 15


def test_everything_a_contract_says_is_loaded(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        (
            "status: active",
            "status: active\ndescription: {purpose: Parcels sent., usage: Billing.}\n"
            "team: {name: Parcel desk, members: [{username: a@example.com},"
            " {username: desk@example.com, role: Owner}]}\n"
            "tags: [parcels, billing]\n"
            "slaProperties: [{property: latency, value: 2, unit: d}]",
        ),
        (
            "      fileNamePattern",
            "      window: null\n      late: quarantine_file\n      duplicates: allow\n"
            "      minBytes: 10\n      maxBytes: 1.5 GiB\n      maxUnpackedBytes: 20 GB\n"
            "      maxBatchFiles: 7\n      maxBatchBytes: 5 MiB\n      fileNamePattern",
        ),
        ("dt=%Y-%m-%d", '"%Y/%m/%d/h=%H"'),
        ("type: csv\n", "type: tsv\n      compression: zstd\n"),
        custom("producer", "parcel desk"),
        column("classification: personal\n        unique: true"),
    )
    assert contract.description == "Parcels sent. Billing."
    assert contract.owner == "desk@example.com"
    assert contract.tags == ("parcels", "billing")
    assert contract.freshness == timedelta(days=2)
    assert contract.producer == "parcel desk"
    landing = contract.landing
    assert landing.grain is Grain.HOUR
    assert landing.window is None
    assert (landing.late, landing.duplicates) == (FilePolicy.QUARANTINE_FILE, FilePolicy.ALLOW)
    assert (landing.min_bytes, landing.max_bytes) == (10, 3 * 1024**3 // 2)
    assert landing.max_unpacked_bytes == 20 * 1000**3
    assert (landing.max_batch_files, landing.max_batch_bytes) == (7, 5 * 1024**2)
    assert contract.format.type is FileFormat.TSV
    assert contract.format.compression is Compression.ZSTD
    assert contract.format.dialect.delimiter == "\t"
    assert contract.column("sent_on").personal
    assert contract.unique_keys == (("parcel_id",), ("sent_on",))


def test_a_dialect_is_loaded(tmp_path: Path) -> None:
    dialect = loaded(
        tmp_path,
        custom(
            "dialect",
            '{delimiter: \';\', quote: "\'", escape: "\\\\", encoding: latin-1,'
            " nullValues: ['', '-'], header: false}",
        ),
    ).format.dialect
    assert (dialect.delimiter, dialect.quote, dialect.escape) == (";", "'", "\\")
    assert (dialect.encoding, dialect.null_values) == ("iso8859-1", ("", "-"))
    assert not dialect.header


def test_a_team_without_an_owner_owns_by_its_name(tmp_path: Path) -> None:
    contract = loaded(tmp_path, ("status: active", "status: active\nteam: {name: Parcel desk}"))
    assert contract.owner == "team:Parcel-desk"


def test_the_policies_of_drift_engine_and_publication_are_loaded(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        (
            "customProperties:\n  - property: landing",
            "customProperties:\n"
            "  - {property: drift, value: {additive: quarantine_file, type: keep_aside,"
            " missing: allow, renamed: quarantine_rows, order: quarantine_file,"
            " nestedShape: allow}}\n"
            "  - {property: engine, value: {name: glue, sizeThresholdBytes: 100 MiB}}\n"
            "  - {property: publication, value: {mode: append}}\n"
            "  - {property: tolerance, value: {divertedShare: 0}}\n"
            "  - property: landing",
        ),
    )
    assert contract.drift.additive is DriftPolicy.QUARANTINE_FILE
    assert contract.drift.type is DriftPolicy.KEEP_ASIDE
    assert contract.drift.missing is DriftPolicy.ALLOW
    assert contract.drift.renamed is DriftPolicy.QUARANTINE_ROWS
    assert contract.drift.order is DriftPolicy.QUARANTINE_FILE
    assert contract.drift.nested_shape is DriftPolicy.ALLOW
    assert (contract.engine, contract.engine_threshold_bytes) == (Engine.GLUE, 100 * 1024**2)
    assert contract.publication is PublicationMode.APPEND
    assert contract.tolerated_share == 0.0


def test_rules_come_in_a_fixed_order_each_with_its_reason(tmp_path: Path) -> None:
    rules = loaded(tmp_path).row_rules
    assert [(r.name, type(r.test), r.code) for r in rules] == [
        ("parcel_id_required", Required, ReasonCode.REQUIRED),
        ("parcel_id_pattern", Matches, ReasonCode.PATTERN),
        ("weight_type", Typed, ReasonCode.TYPE),
        ("weight_range", Within, ReasonCode.RANGE),
        ("pieces_type", Typed, ReasonCode.TYPE),
        ("service_allowed", OneOf, ReasonCode.NOT_ALLOWED),
        ("sent_on_type", Typed, ReasonCode.TYPE),
        ("heavy_goes_by_sea", Holds, ReasonCode.RULE),
    ]
    assert rules[3].test == Within(Decimal(0), Decimal(50))
    assert rules[7].columns == ("weight", "service")


def test_every_check_is_declared_once_in_a_fixed_order(tmp_path: Path) -> None:
    checks = check_names(loaded(tmp_path))
    names = [check.name for check in checks]
    assert names == [
        "rows_conserved",
        "source_objects_accepted",
        "parcel_id_required",
        "parcel_id_pattern",
        "weight_type",
        "weight_range",
        "pieces_type",
        "service_allowed",
        "sent_on_type",
        "heavy_goes_by_sea",
        "parcel_id_unique",
        "has_rows",
    ]
    assert {c.kind for c in checks} == set(CheckKind)
    assert all(check.description.endswith(".") for check in checks)


def test_a_key_of_several_columns_has_one_check_in_its_own_order(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        ("        primaryKey: true", "        primaryKey: true\n        primaryKeyPosition: 2"),
        column("primaryKey: true\n        primaryKeyPosition: 1"),
    )
    assert contract.primary_key == ("sent_on", "parcel_id")
    [unique] = [c for c in check_names(contract) if c.kind is CheckKind.UNIQUE]
    assert (unique.name, unique.columns) == ("sent_on_parcel_id_unique", ("sent_on", "parcel_id"))


def test_a_key_without_positions_follows_the_columns(tmp_path: Path) -> None:
    assert loaded(tmp_path, column("primaryKey: true")).primary_key == ("parcel_id", "sent_on")


def test_severities_of_implied_rules_can_be_lowered(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        (
            PATTERN,
            PATTERN + "\n          minLength: 2\n        customProperties:"
            " [{property: severity, value: {pattern: warning}}]",
        ),
    )
    severities = {r.name: r.severity for r in contract.row_rules}
    assert severities["parcel_id_pattern"] is Severity.WARNING
    assert severities["parcel_id_length"] is Severity.ERROR
    lengths = [r.test for r in contract.row_rules if r.name == "parcel_id_length"]
    assert lengths == [LengthWithin(2, None)]


@pytest.mark.parametrize(
    ("rule", "metric", "columns", "expectation", "unit", "scopes"),
    [
        (
            "metric: nullValues, mustBeLessOrEqualTo: 5, unit: percent",
            Metric.NULL_VALUES,
            ("sent_on",),
            Expectation(maximum=5),
            Unit.PERCENT,
            frozenset(SetScope),
        ),
        (
            "metric: missingValues, arguments: {missingValues: [null, '']}, mustBe: 0",
            Metric.NULL_VALUES,
            ("sent_on",),
            Expectation(equal=0),
            Unit.ROWS,
            frozenset(SetScope),
        ),
        (
            "metric: invalidValues, arguments: {validValues: ['2026-01-01']}, mustBeLessThan: 9",
            Metric.INVALID_VALUES,
            ("sent_on",),
            Expectation(maximum=9, exclusive_maximum=True),
            Unit.ROWS,
            frozenset(SetScope),
        ),
        (
            "metric: duplicateValues, mustNotBeBetween: [2, 5],"
            " customProperties: [{property: scope, value: source_object}]",
            Metric.DUPLICATE_VALUES,
            ("sent_on",),
            Expectation(outside=(2, 5)),
            Unit.ROWS,
            frozenset({SetScope.SOURCE_OBJECT}),
        ),
        (
            "type: custom, engine: lakegate, unit: hours,"
            " implementation: {metric: freshness, mustBeLessThan: 36}",
            Metric.FRESHNESS,
            ("sent_on",),
            Expectation(maximum=36 * 3600, exclusive_maximum=True),
            Unit.SECONDS,
            frozenset({SetScope.BATCH}),
        ),
        (
            "type: custom, engine: lakegate,"
            " implementation: {metric: distinctCount, columns: [sent_on, weight], mustNotBe: 3}",
            Metric.DISTINCT_COUNT,
            ("sent_on", "weight"),
            Expectation(unequal=3),
            Unit.ROWS,
            frozenset(SetScope),
        ),
        (
            "type: custom, engine: lakegate,"
            " implementation: {metric: sum, column: weight, mustBeBetween: [1, 2]}",
            Metric.SUM,
            ("weight",),
            Expectation(minimum=1, maximum=2),
            Unit.ROWS,
            frozenset(SetScope),
        ),
    ],
)
def test_a_rule_on_a_figure_is_loaded(
    tmp_path: Path,
    rule: str,
    metric: Metric,
    columns: tuple[str, ...],
    expectation: Expectation,
    unit: Unit,
    scopes: frozenset[SetScope],
) -> None:
    contract = loaded(tmp_path, column(f"quality: [{{{rule}, name: figure, severity: warning}}]"))
    [read] = [r for r in contract.set_rules if r.name == "figure"]
    assert (read.metric, read.columns, read.expectation) == (metric, columns, expectation)
    assert (read.unit, read.scopes, read.severity) == (unit, scopes, Severity.WARNING)


def test_no_invalid_values_at_all_is_a_rule_on_each_row(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        (
            PATTERN,
            PATTERN + "\n        quality: [{metric: invalidValues, name: short_number,"
            " arguments: {pattern: '.{2,4}'}, mustBe: 0, severity: warning}]",
        ),
    )
    [rule] = [r for r in contract.row_rules if r.name == "short_number"]
    assert (rule.test, rule.code) == (Matches(".{2,4}"), ReasonCode.PATTERN)
    assert rule.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("logical", "extra", "kind", "bounds"),
    [
        ("timestamp", "timezone: true, ", LogicalType.TIMESTAMP_TZ, "2026-01-01T00:00:00+02:00"),
        ("timestamp", "", LogicalType.TIMESTAMP, "2026-01-01T00:00:00"),
        ("time", "", LogicalType.TIME, "06:00:00"),
        ("date", "", LogicalType.DATE, "2026-01-01"),
    ],
)
def test_bounds_of_dates_and_times_are_values_of_their_type(
    tmp_path: Path, logical: str, extra: str, kind: LogicalType, bounds: str
) -> None:
    contract = loaded(
        tmp_path,
        (
            "        logicalType: date\n",
            f"        logicalType: {logical}\n"
            f"        logicalTypeOptions: {{{extra}exclusiveMinimum: '{bounds}'}}\n",
        ),
    )
    assert contract.column("sent_on").type.logical is kind
    [rule] = [r for r in contract.row_rules if r.name == "sent_on_range"]
    expected = {
        LogicalType.TIMESTAMP_TZ: datetime(2025, 12, 31, 22, tzinfo=UTC),
        LogicalType.TIMESTAMP: datetime(2026, 1, 1),
        LogicalType.TIME: time(6),
        LogicalType.DATE: date(2026, 1, 1),
    }[kind]
    assert rule.test == Within(minimum=expected, exclusive_minimum=True)


@pytest.mark.parametrize(
    ("physical", "logical", "kind"),
    [
        ("double", "number", LogicalType.DOUBLE),
        ("NUMERIC(5)", "number", LogicalType.DECIMAL),
        ("json", "string", LogicalType.JSON),
        ("varchar(20)", "string", LogicalType.STRING),
        ("json", "array", LogicalType.JSON),
        ("json", "object", LogicalType.JSON),
        ("boolean", "boolean", LogicalType.BOOLEAN),
        ("bigint", "integer", LogicalType.INTEGER),
        ("timestamptz", "timestamp", LogicalType.TIMESTAMP_TZ),
    ],
)
def test_every_type_can_be_said(
    tmp_path: Path, physical: str, logical: str, kind: LogicalType
) -> None:
    contract = loaded(
        tmp_path,
        (
            "        logicalType: date\n",
            f"        logicalType: {logical}\n        physicalType: {physical}\n",
        ),
    )
    assert contract.column("sent_on").type.logical is kind


def test_normalisation_is_loaded(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        (
            "            value: upper",
            "            value: upper\n          - {property: trim, value: true}\n"
            "          - {property: nullIf, value: [N/A]}\n"
            "          - {property: source, value: Service Level}",
        ),
    )
    service = contract.column("service")
    assert service.normalisation == Normalisation(True, Case.UPPER, ("N/A",))
    assert service.source == "Service Level"


def test_columns_of_json_have_paths(tmp_path: Path) -> None:
    contract = loaded(
        tmp_path,
        ("type: csv\n", "type: jsonl\n"),
        column("customProperties: [{property: source, value: \"$.a['b c'][0].d\"}]"),
    )
    assert contract.column("weight").source == "$.weight"
    assert contract.column("sent_on").source == "$.a['b c'][0].d"


@pytest.mark.parametrize(
    "path", ["address.city", "$", "$.a..b", "$.a[*]", "$.a[-1]", "$['a", "$.a "]
)
def test_a_source_that_is_no_json_path_is_refused(tmp_path: Path, path: str) -> None:
    quoted = path.replace("'", "''")
    with pytest.raises(ContractError, match="is no JSON path"):
        loaded(
            tmp_path,
            ("type: csv\n", "type: jsonl\n"),
            column(f"customProperties: [{{property: source, value: '{quoted}'}}]"),
        )


def test_an_elt_contract_has_types_and_no_rules(tmp_path: Path) -> None:
    text = PARCELS[: PARCELS.index("        primaryKey")]
    text += PARCELS[PARCELS.index("      - name: pieces") : PARCELS.index("      - name: service")]
    text += PARCELS[PARCELS.index("customProperties:\n  - property: landing") :]
    text += "  - property: processing\n    value: elt\n"
    path = tmp_path / "parcels.yaml"
    path.write_text(text, encoding="utf-8")
    contract = load_contract(path)
    assert contract.processing is Processing.ELT
    assert (contract.row_rules, contract.set_rules) == ((), ())
    assert [c.name for c in check_names(contract)] == ["rows_conserved", "source_objects_accepted"]


# --- The hash ------------------------------------------------------------------------------------


def test_comments_layout_key_order_and_descriptions_do_not_change_the_hash(tmp_path: Path) -> None:
    before = loaded(tmp_path).hash
    assert len(before) == 16
    after = loaded(
        tmp_path,
        (
            "apiVersion: v3.1.0\nkind: DataContract\n",
            "# said\nkind: DataContract\n\napiVersion: v3.1.0\n",
        ),
        ("          minimum: 0\n          maximum: 50", "          {maximum: 50.0, minimum: 0}"),
        column("description: The day."),
        ("status: active", "status: active\nteam: {name: desk}\ntags: [a]"),
    ).hash
    assert after == before


@pytest.mark.parametrize(
    "change",
    [
        ("version: 1.0.0", "version: 1.0.1"),
        ("          maximum: 50", "          maximum: 51"),
        ("[AIR, SEA]", "[AIR, ROAD]"),
        ("weight < 40", "weight < 41"),
        ("weight * 1000", "weight * 1001"),
        ("name: pieces", "name: boxes"),
        (PATTERN, 'pattern: "^P[0-9]*$"'),
        column("required: true"),
        custom("tolerance", "{divertedShare: 0.5}"),
        custom("dialect", "{nullValues: ['', NA]}"),
        custom("drift", "{additive: allow}"),
    ],
)
def test_whatever_may_change_a_rows_fate_changes_the_hash(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    assert loaded(tmp_path, change).hash != loaded(tmp_path).hash
