"""Every key that a contract may use, by the place where it stands: the closed list.

A key that is not here is refused, so that nothing in a contract is skipped in silence. The
contract reference names each of them; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

#: What a contract's own `customProperties` may hold, with the keys of each that is a mapping.
CONTRACT_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "landing": (
        "prefix",
        "partitionPath",
        "firstPartition",
        "fileNamePattern",
        "minBytes",
        "maxBytes",
        "maxUnpackedBytes",
        "window",
        "late",
        "duplicates",
        "maxBatchFiles",
        "maxBatchBytes",
    ),
    "format": ("type", "compression"),
    "dialect": ("delimiter", "quote", "escape", "encoding", "nullValues", "header"),
    "drift": ("additive", "type", "missing", "renamed", "order", "nestedShape"),
    "tolerance": ("divertedShare",),
    "engine": ("name", "sizeThresholdBytes"),
    "publication": ("mode",),
    "pace": ("maxRuns", "maxQueuedBytes", "maxFilesPerSecond", "maxWait"),
    "processing": (),
    "producer": (),
}

#: What a column's `customProperties` may hold.
COLUMN_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "source": (),
    "trim": (),
    "case": (),
    "nullIf": (),
    "allowSpecial": (),
    "severity": ("pattern", "range", "length"),
}

#: What a quality rule's `customProperties` may hold.
RULE_PROPERTIES: Mapping[str, tuple[str, ...]] = {"scope": ()}

#: The standard's operators on a figure.
OPERATORS = (
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
)

#: The keys of `implementation` in a rule of `type: custom`.
EXPRESSION_KEYS = ("expression",)
METRIC_KEYS = ("metric", "column", "columns", *OPERATORS)

#: The keys of `arguments` in a rule of `type: library`, by metric.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "nullValues": (),
    "missingValues": ("missingValues",),
    "invalidValues": ("validValues", "pattern"),
    "duplicateValues": ("properties",),
    "rowCount": (),
}

#: Of the standard, what means something here. Its other keys are descriptions, and are accepted.
STANDARD_KEYS = (
    "apiVersion",
    "kind",
    "id",
    "name",
    "version",
    "status",
    "description",
    "team",
    "tags",
    "schema",
    "slaProperties",
    "servers",
    "customProperties",
)
COLUMN_KEYS = (
    "name",
    "logicalType",
    "physicalType",
    "logicalTypeOptions",
    "required",
    "unique",
    "primaryKey",
    "primaryKeyPosition",
    "classification",
    "description",
    "transformLogic",
    "quality",
    "customProperties",
)
#: The options of logical types that are rules.
OPTION_KEYS = (
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "timezone",
)
RULE_KEYS = (
    "name",
    "type",
    "metric",
    "arguments",
    "engine",
    "implementation",
    "unit",
    "severity",
    "dimension",
    "description",
    "customProperties",
)
