"""The columns that rows have beside those of their contract: where each came from, and what became
of it. Their names alone, for those who have no need of Arrow.
"""

from __future__ import annotations

SOURCE_OBJECT_ID = "_source_object_id"
SOURCE_KEY = "_source_key"
#: Ordinal of the record in its file, from 1, header not counted.
SOURCE_ROW = "_source_row"
#: The physical line on which the record starts, from 1; null where a format has no lines.
SOURCE_LINE = "_source_line"
BATCH_ID = "_batch_id"
CONTRACT_VERSION = "_contract_version"
INGESTED_AT = "_ingested_at"
PARTITION = "_partition"
#: A JSON object of what a file holds beyond its contract, and of text that would not convert.
EXTRA = "_extra"
#: The text of a row that has no shape.
RAW = "_raw"
REASONS = "_reasons"
