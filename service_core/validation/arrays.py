"""Arrow arrays made from numpy's buffers.

`pa.array` imports pandas wherever that is installed, which takes seconds; buffers do without.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def whole_numbers(numbers: Numbers, valid: Mask | None = None) -> pa.Array:
    """An int64 array; null where a mask is given and is false."""
    buffer = pa.py_buffer(np.ascontiguousarray(numbers, dtype=np.int64))
    validity = None if valid is None else _bits(valid)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [validity, buffer])


def booleans(mask: Mask) -> pa.Array:
    """A boolean array."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _bits(mask)])


def repeated(runs: list[tuple[str, int]]) -> pa.DictionaryArray:
    """Each text as many times as it is to stand there."""
    places = {text: place for place, text in enumerate(dict.fromkeys(text for text, _ in runs))}
    texts = [text.encode() for text in places]
    offsets = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int32)
    dictionary = pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))
    )
    codes = np.array([places[text] for text, _ in runs], dtype=np.int32)
    indices = np.repeat(codes, [count for _, count in runs])
    return pa.DictionaryArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(indices), [None, pa.py_buffer(indices)]), dictionary
    )


def _bits(mask: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
