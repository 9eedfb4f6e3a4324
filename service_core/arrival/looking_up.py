"""Looking up: what S3 has under keys of which a notification speaks.

A notification has neither the second that S3 files a version under, nor its place among the
versions of that second, and these decide which version of a key is the newest. Only a listing
does, so both ways in take them from there. Keys that lie together are looked up together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from service_core.ports import Listed, ObjectStore

_THREADS = 8
#: Keys for each thread at least: dense keys need few requests, and one page has 1,000.
_KEYS_EACH = 250
_FEW, _MANY = 20, 1_000
#: Sorts after every character that a key can hold.
_LAST_CHARACTER = "\U0010ffff"
#: What S3 takes as a marker is as long as a key may be.
_KEY_BYTES = 1_024

Versions = dict[str, list[Listed]]


def look_up(store: ObjectStore, prefix: str, keys: Iterable[str]) -> Versions:
    """Every version of each key that has one.

    Args:
        prefix: What all of the keys begin with.
    """
    wanted = sorted(set(keys))
    each = max(_KEYS_EACH, -(-len(wanted) // _THREADS))
    parts = [wanted[start : start + each] for start in range(0, len(wanted), each)]
    if len(parts) < 2:
        return _look_up(store, prefix, wanted)
    found: Versions = {}
    with ThreadPoolExecutor(len(parts)) as pool:
        for part in pool.map(lambda part: _look_up(store, prefix, part), parts):
            found.update(part)
    return found


def _look_up(store: ObjectStore, prefix: str, wanted: Sequence[str]) -> Versions:
    found: Versions = {}
    asked = frozenset(wanted)
    # One more than is wanted: the last key of a page is left to the next.
    limit = min(max(len(wanted) + 1, _FEW), _MANY)
    done = 0
    resume: tuple[str, str] | None = None
    while done < len(wanted):
        before = just_before(wanted[done])
        if resume is None or resume[0] < before:
            resume = (before, "")
        page = store.list_versions(prefix, resume=resume, limit=limit)
        for listed in page.objects:
            if listed.key in asked:
                found.setdefault(listed.key, []).append(listed)
        resume = page.resume
        if resume is None:
            break
        # A page that ends within a key's versions has yet to tell the rest of them.
        covered = done + bisect_right(wanted[done:], resume[0])
        if resume[1] and covered and wanted[covered - 1] == resume[0]:
            covered -= 1
        hits, done = covered - done, max(done, covered)
        dense = hits * 4 >= limit
        limit = min(limit * 4, _MANY, len(wanted) - done + 1) if dense else limit // 4
        limit = max(limit, _FEW)
    return found


def just_before(key: str) -> str:
    """A text that sorts before a key, with next to nothing between the two."""
    last = ord(key[-1])
    before = chr(last - 1) if last and not 0xD800 <= last - 1 <= 0xDFFF else ""
    marker = key[:-1] + before + _LAST_CHARACTER if before else key[:-1]
    too_long = len(marker.encode("utf-8", "surrogatepass")) > _KEY_BYTES
    return key[:-1] if too_long else marker
