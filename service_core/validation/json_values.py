"""JSON values with every number spelled as it was sent.

A value that a reader would change is never let through in silence: `1.10` stays `1.10`, a key that
stands twice is an error rather than a race between two values, and what is not JSON by the
standard (NaN, half a surrogate pair) is malformed here whatever lenient parsers make of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

#: A number that is not a whole one is kept as the bytes that were sent; encoding puts them out
#: again unchanged.
Number = msgspec.Raw

_NESTING = "values are nested more deeply than this reader goes (about 1,000 levels)"
#: Python refuses to turn more digits than this into a number.
_MAX_DIGITS = 4000

_decode = msgspec.json.Decoder(float_hook=lambda text: Number(text.encode())).decode
_encode = msgspec.json.Encoder().encode

#: `-0` is the one whole number that has another spelling, and is lost as an int.
_NEGATIVE_ZERO = re.compile(rb"-0(?![0-9.eE])")
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')


class JsonMalformedError(Exception):
    """The text is not JSON, or not to be trusted as such.

    Attributes:
        message: What is wrong, without any value of the text.
        offset: Where, in characters from the begin of the text; None where it has no one place.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        self.message = message
        self.offset = offset
        super().__init__(message)


def suspicious(block: bytes) -> bool:
    """Whether some document in a block needs `decode_json`'s careful way from the start."""
    return bool(_NEGATIVE_ZERO.search(block) or _SPACED_COLON.search(block))


def decode_json(text: bytes, *, careful: bool = False) -> Any:
    """The value of a JSON document: dict, list, str, bool, None, int, or `Number`.

    Args:
        text: UTF-8.
        careful: Decode key by key, which costs five times as much. Otherwise that is done only
            where the number of colons does not rule out that a key stands twice.

    Raises:
        JsonMalformedError: it is not JSON, or names a key twice in one object.
    """
    try:
        if careful:
            return _carefully(text)
        try:
            value = _decode(text)
        except msgspec.ValidationError:
            # A whole number of thousands of digits.
            return _carefully(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(text, str(error)) from error
        # A key is followed by `":`. As many of these as keys: no key can have been lost.
        if text.count(b'":') != _keys(value):
            return _carefully(text)
        return value
    except RecursionError:
        raise JsonMalformedError(_NESTING) from None


def encode_json(value: Any) -> str:
    """Compact JSON text of a decoded value, numbers as they were sent."""
    return _encode(value).decode()


def scalar_text(value: Any) -> str | None:
    """The text of a value that is no object and no array; None for null.

    Raises:
        TypeError: it is an object or array.
    """
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return None
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is Number:
        return bytes(value).decode()
    raise TypeError(kind.__name__)


def _keys(value: Any) -> int:
    kind = type(value)
    if kind is dict:
        count = len(value)
        for inner in value.values():
            if type(inner) is dict or type(inner) is list:
                count += _keys(inner)
        return count
    if kind is list:
        return sum(_keys(inner) for inner in value if type(inner) in (dict, list))
    return 0


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise JsonMalformedError("a key stands twice in one object")
    return keys


def _whole(text: str) -> Any:
    return Number(text.encode()) if text == "-0" or len(text) > _MAX_DIGITS else int(text)


def _constant(text: str) -> Any:
    raise JsonMalformedError(f"{text} is no JSON value")


_careful = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_float=lambda text: Number(text.encode()),
    parse_int=_whole,
    parse_constant=_constant,
)


def _carefully(text: bytes) -> Any:
    try:
        value = _careful.decode(text.decode())
        _encode(value)
    except json.JSONDecodeError as error:
        raise JsonMalformedError(error.msg, error.pos) from error
    except UnicodeError:
        # The only text that cannot be encoded again.
        raise JsonMalformedError("a string holds half of a surrogate pair") from None
    return value


def _malformed(text: bytes, reason: str) -> JsonMalformedError:
    """Python's own reader names the place in characters, which people can count."""
    try:
        _carefully(text)
    except JsonMalformedError as error:
        return error
    except UnicodeDecodeError:
        return JsonMalformedError("a string is not UTF-8")
    return JsonMalformedError(reason.removeprefix("JSON is malformed: "))
