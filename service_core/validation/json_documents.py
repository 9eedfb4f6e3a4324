"""Documents: a JSON file's text cut into the texts of its rows, in bounded memory.

Only the frame is read here (lines, or an array's brackets and commas); whether a document is JSON
is for the decoder to say, so that there is one judge of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from service_core.reasons import ReasonCode
from service_core.validation.content import Content
from service_core.validation.encoding import RECORD_LIMIT
from service_core.validation.json_places import PADDING
from service_core.validation.json_values import suspicious
from service_core.validation.refusal import refuse

#: Text that is gone through at a time. For each block a hundred calls are made whatever its size:
#: of 2M orders, blocks of a quarter of this cost a tenth of validation more.
_BLOCK = 4 * 1024 * 1024


def line_blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines: a text, and how many of its bytes are lines with their ends. What follows
    them is of no account, and ends with `PADDING`."""
    pieces: list[bytes] = []
    waiting = 0
    for chunk in chunks:
        pieces.append(chunk)
        waiting += len(chunk)
        if waiting < _BLOCK or b"\n" not in chunk:
            continue
        text = b"".join((*pieces, PADDING))
        end = text.rfind(b"\n", 0, waiting) + 1
        pieces, waiting = [text[end:waiting]], waiting - end
        yield text, end
    if waiting:
        ended = pieces[-1].endswith(b"\n")
        yield b"".join((*pieces, b"" if ended else b"\n", PADDING)), waiting + (not ended)


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)


def array_elements(content: Content) -> Iterator[tuple[int, bytes, bool]]:
    """Each element of a JSON array: the line it begins on, its text, and whether to decode it
    carefully.

    Raises:
        FileRefused: JSON_MALFORMED where the array itself is broken; MALFORMED_FILE at an element
            beyond the record limit.
    """
    # `line` is the line of `start`, where the element in hand (with white space) begins.
    text, line, start, scanned = b"", 1, 0, 0
    depth = elements = 0
    ended = False
    for block in content.blocks(_BLOCK):
        text, scanned, start = text[start:] + block, scanned - start, 0
        while not ended and (match := _TOKEN.search(text, scanned)) is not None:
            token = match.group()
            if token == b'"' or (depth == 0 and token != b"["):
                # A string that goes on in the next block, or no array at all.
                break
            if depth == 0 and text[start : match.start()].strip():
                break
            scanned = match.end()
            if token in (b"[", b"{"):
                depth += 1
            elif token in (b"]", b"}"):
                depth -= 1
            if (depth == 1 and token == b",") or depth == 0:
                raw = text[start : match.start()]
                element = raw.strip()
                first = line + raw.count(b"\n", 0, len(raw) - len(raw.lstrip()))
                if element:
                    elements += 1
                    yield first, element, suspicious(element)
                elif elements or token == b",":
                    raise refuse(
                        ReasonCode.JSON_MALFORMED,
                        f"line {first}: an element is missing in the array",
                        line=first,
                    )
            elif depth > 1 or token != b"[":
                continue
            line += text.count(b"\n", start, scanned)
            start = scanned
            ended = depth == 0
        remains = text[start:]
        if ended and remains.strip():
            at = line + remains.count(b"\n", 0, len(remains) - len(remains.lstrip()))
            raise refuse(
                ReasonCode.JSON_MALFORMED,
                f"line {at}: something follows the end of the array",
                line=at,
            )
        if not ended and depth == 0 and remains.strip():
            raise refuse(
                ReasonCode.JSON_MALFORMED,
                f"line {line}: the file does not begin with [, as a JSON array does",
                line=line,
            )
        if len(remains) > RECORD_LIMIT:
            raise refuse(
                ReasonCode.MALFORMED_FILE,
                f"an element is longer than {RECORD_LIMIT} bytes",
                line=line,
            )
    if depth:
        last = line + text.count(b"\n", start)
        raise refuse(
            ReasonCode.JSON_MALFORMED, f"line {last}: the array is never closed", line=last
        )
