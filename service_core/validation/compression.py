"""Unpacking: landed bytes in, plain bytes out, never more than the contract allows.

Output is asked for in bounded steps, so a file that unpacks to a thousand times its size is seen
as such before it fills memory or disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from service_core.contract.model import Compression
from service_core.reasons import ReasonCode
from service_core.validation.refusal import refuse

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: Bytes of plain output asked of gzip at a time.
_STEP = 1024 * 1024
#: zstd's decompressor has no bound on what one call returns, and 4 bytes of input can stand for
#: 128 KiB of output, so it is fed in slices: at worst 64 MiB come back.
_ZSTD_SLICE = 2048
#: A frame may ask for a window of up to this much memory: 2**27 is what `zstd --long` makes.
_ZSTD_WINDOW = 1 << 27
#: Beyond this much output, a file that has grown this many times is no honest text. Repetitive
#: exports reach 30; DEFLATE's limit is 1032.
_ABSURD_RATIO = 250
_ABSURD_FROM = 64 * 1024 * 1024


def sniff(head: bytes) -> Compression:
    """What a file's first bytes say that it is."""
    if head.startswith(GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(ZSTD_MAGIC):
        return Compression.ZSTD
    return Compression.NONE


def unpack(chunks: Iterable[bytes], kind: Compression, *, max_bytes: int) -> Iterator[bytes]:
    """The plain bytes of landed ones.

    Args:
        chunks: Landed bytes.
        kind: How they are compressed; not `auto`.
        max_bytes: The contract's bound on plain bytes.

    Raises:
        FileRefused: TRUNCATED where the input ends inside a member or frame; COMPRESSION where
            it is corrupt or something else follows it; DECOMPRESSION_BOMB beyond the bound.
    """
    taken = 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        for chunk in chunks:
            taken += len(chunk)
            yield chunk

    plain = {
        Compression.GZIP: _gunzip,
        Compression.ZSTD: _unzstd,
    }.get(kind, _as_is)
    given = 0
    for chunk in plain(counted()):
        given += len(chunk)
        if given > max_bytes:
            raise refuse(
                ReasonCode.DECOMPRESSION_BOMB,
                f"the file unpacks to more than {max_bytes} bytes, the contract's bound",
            )
        if given > _ABSURD_FROM and given > _ABSURD_RATIO * taken:
            raise refuse(
                ReasonCode.DECOMPRESSION_BOMB,
                f"the file had unpacked to {given} bytes from {taken}; more than "
                f"{_ABSURD_RATIO} times its size is no honest data",
            )
        yield chunk


def _as_is(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return chunks


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    members, started, padding = 0, False, False
    for chunk in chunks:
        data, held_back = chunk, False
        while data or held_back:
            if members and not started:
                # Between members: another one, or the zeros that tape archives pad with.
                if not data.strip(b"\0"):
                    padding = True
                    break
                if padding or data[0] != GZIP_MAGIC[0]:
                    raise _garbage("gzip")
            try:
                plain = member.decompress(data, _STEP)
            except zlib.error as error:
                _not_for_memory(error)
                raise _corrupt("gzip", str(error)) from error
            started = True
            if plain:
                yield plain
            if member.eof:
                data, held_back = member.unused_data, False
                member, members, started = zlib.decompressobj(wbits=31), members + 1, False
            else:
                # A full step may leave output behind even where all input was taken.
                data, held_back = member.unconsumed_tail, len(plain) == _STEP
    if started or not members:
        raise _truncated("gzip")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    frames, started = 0, False
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_SLICE):
            data = chunk[start : start + _ZSTD_SLICE]
            while data:
                try:
                    plain = frame.decompress(data)
                except zstandard.ZstdError as error:
                    _not_for_memory(error)
                    if frames and not started:
                        raise _garbage("zstd") from error
                    raise _corrupt("zstd", str(error)) from error
                started = True
                if plain:
                    yield plain
                data = b""
                if frame.eof:
                    data = frame.unused_data
                    frame, frames, started = decompressor.decompressobj(), frames + 1, False
    if started or not frames:
        raise _truncated("zstd")


def _truncated(name: str) -> Exception:
    return refuse(
        ReasonCode.TRUNCATED, f"the {name} stream ends before its end mark; land the file again"
    )


def _not_for_memory(error: Exception) -> None:
    """Too little memory for a stream's window says nothing about the file: zlib's error -4, and
    zstd's allocation error."""
    said = str(error)
    if said.startswith("Error -4 ") or "Allocation error" in said:
        raise MemoryError(said) from error


def _corrupt(name: str, detail: str) -> Exception:
    return refuse(ReasonCode.COMPRESSION, f"the {name} stream is corrupt: {detail}")


def _garbage(name: str) -> Exception:
    return refuse(
        ReasonCode.COMPRESSION, f"bytes that are no {name} stream follow the end of the {name} one"
    )
