"""The boundaries where state leaves the process: every request that can change anything.

They are told apart where they arrive, so that whichever client a request comes from (boto3,
PyIceberg, Arrow's own S3 in C++), it is counted. Whatever is not known to be a reading counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

_READS = (
    "Get", "List", "Describe", "Head", "Query", "Scan", "BatchGet", "TransactGet", "Search",
)  # fmt: skip
_SCOPE = re.compile(r"Credential=[^/]+/[0-9]{8}/[^/]+/([a-z0-9-]+)/aws4_request")
_SHAPES = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-[0-9]+)?"), "<attempt>"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{32,64}(?![0-9a-f])"), "<id>"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "<partition>"),
    (re.compile(r"[0-9]{8}T[0-9]+Z"), "<time>"),
    (re.compile(r"(?<=/)snap-[0-9]+"), "snap-<n>"),
    (re.compile(r"(?<=[/-])[0-9]{5}(?=[-.])"), "<n>"),
)


@dataclass(frozen=True, slots=True)
class Boundary:
    """One request that can change something.

    Attributes:
        service: As AWS signs it, such as `s3` or `dynamodb`.
        operation: As AWS calls it.
        shape: What it is about, without ids and numbers.
    """

    service: str
    operation: str
    shape: str

    def __str__(self) -> str:
        return f"{self.service}:{self.operation} {self.shape}".rstrip()


def boundary_of(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> Boundary | None:
    """The boundary that a request is; None where it only reads.

    Args:
        headers: By lower-case name.
    """
    signed = _SCOPE.search(headers.get("authorization", ""))
    service = signed[1] if signed else "unknown"
    if service == "s3":
        operation = _s3_operation(method, query, headers)
        shape = _shape(path.strip("/"))
    else:
        target = headers.get("x-amz-target", "")
        form = parse_qs(body.decode("utf-8", "replace")) if not target else {}
        operation = target.rpartition(".")[2] or form.get("Action", [method])[0]
        shape = _item_shape(service, body)
    if operation is None or operation.startswith(_READS):
        return None
    return Boundary(service, operation, shape)


def _s3_operation(method: str, query: str, headers: dict[str, str]) -> str | None:
    asked = parse_qs(query, keep_blank_values=True)
    match method:
        case "GET" | "HEAD":
            return None
        case "PUT" if "x-amz-copy-source" in headers:
            return "UploadPartCopy" if "partNumber" in asked else "CopyObject"
        case "PUT":
            return "UploadPart" if "partNumber" in asked else "PutObject"
        case "POST" if "delete" in asked:
            return "DeleteObjects"
        case "POST" if "uploads" in asked:
            return "CreateMultipartUpload"
        case "POST":
            return "CompleteMultipartUpload"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in asked else "DeleteObject"
        case _:
            return method


def _item_shape(service: str, body: bytes) -> str:
    """Which kinds of items a ledger write is about; for others nothing."""
    if service != "dynamodb":
        return ""
    kinds = set(re.findall(rb'"pk": ?\{"S": ?"([A-Z_]+)#', body))
    states = set(re.findall(rb'"state": ?\{"S": ?"([a-z_]+)"', body))
    return " ".join([*sorted(k.decode() for k in kinds), *sorted(s.decode() for s in states)])


def _shape(text: str) -> str:
    for pattern, word in _SHAPES:
        text = pattern.sub(word, text)
    return text
