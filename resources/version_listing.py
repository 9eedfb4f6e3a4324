"""Pages of an S3 listing of versions, read from their XML straight into what is used of them.

botocore reads a page's XML twice, once to see whether it is an error, and walks it along the
service's model. That took more than half of a sensor tick.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

_ROOT = "ListVersionsResult"
_MARKERS = frozenset({"KeyMarker", "NextKeyMarker", "VersionIdMarker", "NextVersionIdMarker"})


def read_pages_quickly(client: Any, moment: Callable[[str], datetime]) -> None:
    """Have a boto3 S3 client give, of `list_object_versions`, what `service_core.s3_store` uses:
    the markers, the versions without owner and storage class, and the delete markers' keys.

    Args:
        moment: Reads a time as S3 writes it.
    """

    def decode(
        response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
    ) -> None:
        try:
            root = ElementTree.fromstring(response_dict["body"])
        except ElementTree.ParseError:
            return
        # An error, which may come with status 200, has another root and is botocore's to tell.
        if root.tag.endswith(_ROOT):
            customized_response_dict.update(_page(root, moment))
            response_dict["body"] = b""

    client.meta.events.register("before-parse.s3.ListObjectVersions", decode)


def _page(root: ElementTree.Element, moment: Callable[[str], datetime]) -> dict[str, Any]:
    namespace = root.tag.removesuffix(_ROOT)
    page: dict[str, Any] = {}
    versions: list[dict[str, Any]] = []
    deletions: list[dict[str, Any]] = []
    for element in root:
        name = element.tag.removeprefix(namespace)
        if name == "Version":
            versions.append(_version(element, namespace, moment))
        elif name == "DeleteMarker":
            deletions.append({"Key": element.findtext(f"{namespace}Key", "")})
        elif name == "IsTruncated":
            page[name] = element.text == "true"
        elif name == "EncodingType" or name in _MARKERS:
            page[name] = element.text or ""
    # botocore gives no empty lists either.
    lists = {"Versions": versions, "DeleteMarkers": deletions}
    return page | {kind: found for kind, found in lists.items() if found}


def _version(
    element: ElementTree.Element, namespace: str, moment: Callable[[str], datetime]
) -> dict[str, Any]:
    said = {child.tag: child.text or "" for child in element}
    version = {
        "Key": said[f"{namespace}Key"],
        "ETag": said[f"{namespace}ETag"],
        "Size": int(said[f"{namespace}Size"]),
        "IsLatest": said[f"{namespace}IsLatest"] == "true",
        "LastModified": moment(said[f"{namespace}LastModified"]),
    }
    if (version_id := said.get(f"{namespace}VersionId")) is not None:
        version["VersionId"] = version_id
    return version
