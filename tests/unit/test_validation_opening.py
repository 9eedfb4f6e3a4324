"""Opening: what a file's name, size and bytes say, before any row is looked at."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.model import Compression, Contract, FileFormat, FilePolicy
from service_core.source_object import SourceObject
from service_core.validation import compression, encoding
from service_core.validation.compression import unpack
from service_core.validation.encoding import to_utf8
from service_core.validation.landing import judge_landing
from service_core.validation.refusal import FileRefused
from tests.unit.validation_files import NOW, PARTITION, contract, with_landing

BIG = 1 << 40


def landed(name: str = "a.csv", *, size: int = 10, **change: object) -> SourceObject:
    found = SourceObject(
        bucket="raw",
        key=f"things/dt={PARTITION}/{name}",
        etag="e",
        size=size,
        last_modified=NOW,
        partition=PARTITION,
    )
    return found.model_copy(update=change)


def found(agreed: Contract, source_object: SourceObject) -> list[str]:
    return [f.code.value for f in judge_landing(agreed, source_object)]


def compressed(agreed: Contract, kind: Compression) -> Contract:
    return replace(agreed, format=replace(agreed.format, compression=kind))


# --- Before a byte is read -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "codes"),
    [
        ("a.csv", FileFormat.CSV, []),
        ("a.CSV.GZ", FileFormat.CSV, []),
        ("a.csv.zst", FileFormat.CSV, []),
        ("a.txt", FileFormat.CSV, []),
        ("noextension", FileFormat.CSV, []),
        ("a.xlsx", FileFormat.CSV, ["UNSUPPORTED_EXTENSION"]),
        ("a.json", FileFormat.CSV, ["UNSUPPORTED_EXTENSION"]),
        ("a.csv.bz2", FileFormat.CSV, ["UNSUPPORTED_EXTENSION"]),
        ("a.ndjson", FileFormat.JSON_LINES, []),
        ("a.json", FileFormat.JSON_ARRAY, []),
        ("a.parquet", FileFormat.PARQUET, []),
        ("a.tsv", FileFormat.TSV, []),
    ],
)
def test_the_extension_must_be_the_formats(name: str, kind: FileFormat, codes: list[str]) -> None:
    assert found(contract(kind=kind), landed(name)) == codes


def test_the_extension_must_not_contradict_a_declared_compression() -> None:
    plain = compressed(contract(), Compression.NONE)
    assert found(plain, landed("a.csv.gz")) == ["UNSUPPORTED_EXTENSION"]
    packed = compressed(contract(), Compression.GZIP)
    assert found(packed, landed("a.csv.zst")) == ["UNSUPPORTED_EXTENSION"]
    assert found(packed, landed("a.csv")) == []


@pytest.mark.parametrize(
    ("size", "codes"), [(0, ["EMPTY"]), (4, ["TOO_SMALL"]), (5, []), (9, []), (10, ["TOO_LARGE"])]
)
def test_sizes_are_judged_without_reading(size: int, codes: list[str]) -> None:
    agreed = with_landing(contract(), min_bytes=5, max_bytes=9)
    assert found(agreed, landed(size=size)) == codes


def test_the_whole_name_must_match() -> None:
    agreed = with_landing(contract(), file_name=re.compile(r"things_[0-9]+\.csv"))
    assert found(agreed, landed("things_1.csv")) == []
    assert found(agreed, landed("xthings_1.csv")) == ["NAME_PATTERN"]
    assert found(agreed, landed("things_1.csv\n")) == ["NAME_PATTERN", "UNSUPPORTED_EXTENSION"]


def test_a_key_under_no_partition_or_prefix_says_so() -> None:
    assert found(contract(), landed(partition_valid=False)) == ["PARTITION_INVALID"]
    assert found(contract(), landed(key="others/a.csv")) == ["UNKNOWN_PREFIX"]


def test_a_late_file_goes_by_policy() -> None:
    assert found(contract(), landed(late=True)) == []
    agreed = with_landing(contract(), late=FilePolicy.QUARANTINE_FILE)
    assert found(agreed, landed(late=True)) == ["LATE"]
    (said,) = judge_landing(agreed, landed(late=True))
    assert "(3 days past its end) had closed" in said.message
    assert found(agreed, landed()) == []


def test_everything_that_is_wrong_is_told() -> None:
    agreed = with_landing(contract(), file_name=re.compile(r"x"), min_bytes=50)
    assert found(agreed, landed("a.pdf")) == ["NAME_PATTERN", "UNSUPPORTED_EXTENSION", "TOO_SMALL"]


# --- Compression ---------------------------------------------------------------------------------

TEXT = b"a,b,c\n" + b"1,2,3\n" * 500


def zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


def zstd_stream(body: bytes) -> bytes:
    """A frame that does not say how long it is."""
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as writer:
        writer.write(body)
    return out.getvalue()


PACKERS = [
    (gzip.compress, Compression.GZIP),
    (zstd, Compression.ZSTD),
    (zstd_stream, Compression.ZSTD),
]


def chunks(body: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    return (body[i : i + size] for i in range(0, len(body), size))


def unpacked(body: bytes, kind: Compression, *, size: int = 1 << 20, bound: int = BIG) -> bytes:
    return b"".join(unpack(chunks(body, size), kind, max_bytes=bound))


def refusal(body: bytes, kind: Compression, **how: int) -> str:
    with pytest.raises(FileRefused) as caught:
        unpacked(body, kind, **how)
    return caught.value.findings[0].code.value


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_members_and_frames_one_after_the_other_are_one_file(
    pack: Callable[[bytes], bytes], kind: Compression, size: int
) -> None:
    assert unpacked(pack(TEXT), kind, size=size) == TEXT
    assert unpacked(pack(TEXT) + pack(b"") + pack(b"end"), kind, size=size) == TEXT + b"end"


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_a_stream_cut_anywhere_is_truncated(
    pack: Callable[[bytes], bytes], kind: Compression
) -> None:
    whole = pack(TEXT)
    for end in (5, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        assert refusal(whole[:end], kind) == "TRUNCATED"
    assert refusal(whole + whole[:-3], kind) == "TRUNCATED"


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_garbage_after_the_end_is_not_dropped_in_silence(
    pack: Callable[[bytes], bytes], kind: Compression
) -> None:
    assert refusal(pack(TEXT) + b"more rows,here\n", kind) == "COMPRESSION"


def test_the_zeros_that_pad_a_tape_archive_are_allowed_after_gzip() -> None:
    assert unpacked(gzip.compress(TEXT) + b"\0" * 700, Compression.GZIP, size=100) == TEXT
    assert refusal(gzip.compress(TEXT) + b"\0\0x", Compression.GZIP) == "COMPRESSION"


def test_a_wrong_checksum_is_seen() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 1
    assert refusal(bytes(packed), Compression.GZIP) == "COMPRESSION"
    checked = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT))
    checked[-1] ^= 1
    assert refusal(bytes(checked), Compression.ZSTD) == "COMPRESSION"


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_no_more_is_unpacked_than_the_contract_allows(
    pack: Callable[[bytes], bytes], kind: Compression
) -> None:
    packed = pack(b"0" * (3 << 20))
    assert refusal(packed, kind, bound=1 << 20) == "DECOMPRESSION_BOMB"
    given_ = 0
    with pytest.raises(FileRefused):
        for chunk in unpack(chunks(packed), kind, max_bytes=1 << 20):
            given_ += len(chunk)
    assert given_ <= 1 << 20


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_an_absurd_ratio_is_a_bomb_whatever_the_bound(
    pack: Callable[[bytes], bytes], kind: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "_ABSURD_FROM", 1 << 20)
    assert refusal(pack(b"0" * (8 << 20)), kind) == "DECOMPRESSION_BOMB"


@given(st.binary(max_size=200), st.sampled_from([Compression.GZIP, Compression.ZSTD]),
       st.integers(1, 50), st.booleans())  # fmt: skip
def test_any_bytes_are_unpacked_or_refused(
    body: bytes, kind: Compression, size: int, magic: bool
) -> None:
    head = {Compression.GZIP: gzip.compress(b"x"), Compression.ZSTD: zstd(b"x")}[kind]
    try:
        unpacked((head if magic else b"") + body, kind, size=size)
    except FileRefused as refused:
        assert refused.findings[0].code.value in ("TRUNCATED", "COMPRESSION")


@given(st.binary(max_size=3000), st.integers(1, 400))
@settings(deadline=None)
def test_what_was_packed_comes_out_again(body: bytes, size: int) -> None:
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(body) + packer.flush()
    assert unpacked(packed, Compression.GZIP, size=size) == body
    assert unpacked(zstd(body), Compression.ZSTD, size=size) == body


# --- Encoding ------------------------------------------------------------------------------------


def text(body: bytes, name: str, *, size: int = 1 << 20) -> bytes:
    return b"".join(to_utf8(chunks(body, size), name, lines=True, nul=False))


def encoding_fault(body: bytes, name: str, *, size: int = 1 << 20) -> tuple[str, int | None]:
    with pytest.raises(FileRefused) as caught:
        text(body, name, size=size)
    return caught.value.findings[0].code.value, caught.value.findings[0].line


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("utf-8", "utf-8"), ("utf-8", "utf-8-sig"), ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"), ("cp1252", "cp1252"), ("iso-8859-1", "latin-1"),
        ("utf-32", "utf-32"),
    ],
)  # fmt: skip
def test_every_encoding_becomes_the_same_text(name: str, codec: str, size: int) -> None:
    said = "é,ü\nß\n"
    assert text(said.encode(codec), name, size=size) == said.encode()


def test_other_alphabets_and_characters_cut_between_chunks_survive() -> None:
    said = "日本,\U0001f600\nend\n"
    for codec in ("utf-8", "utf-16"):
        for size in (1, 2, 3, 5):
            assert text(said.encode(codec), codec, size=size) == said.encode()


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_the_line_of_the_first_wrong_byte_is_named(size: int) -> None:
    assert encoding_fault(b"a\nb\nc\xff\nd\xff\n", "utf-8", size=size) == ("ENCODING", 3)
    assert encoding_fault("a\né\n".encode("latin-1"), "utf-8", size=size) == ("ENCODING", 2)
    assert encoding_fault(b"a\n\xc3\xa9\n", "ascii", size=size) == ("ENCODING", 2)
    assert encoding_fault(b"a\nb\xe2\x82", "utf-8", size=size) == ("ENCODING", 2)
    assert encoding_fault(b"a\n\xed\xa0\x80\n", "utf-8", size=size) == ("ENCODING", 2)


def test_utf16_where_utf8_was_agreed_is_recognised() -> None:
    with pytest.raises(FileRefused, match="UTF-16"):
        text("a,b\n".encode("utf-16"), "utf-8")


@pytest.mark.parametrize("size", [1, 1000])
def test_a_nul_is_no_text_in_a_delimited_file(size: int) -> None:
    assert encoding_fault(b"a\nb\n\0", "utf-8", size=size) == ("ENCODING", 3)
    assert encoding_fault("a\n".encode("utf-16-le"), "utf-8", size=size) == ("ENCODING", 1)


def test_utf16_that_does_not_say_its_byte_order_is_refused() -> None:
    assert encoding_fault(b"a\0\n\0", "utf-16") == ("ENCODING", 1)


@given(st.binary(max_size=60), st.integers(1, 9),
       st.sampled_from(["utf-8", "utf-8-sig", "ascii", "utf-16-le", "utf-32-be", "cp1252",
                        "shift_jis"]))  # fmt: skip
def test_any_bytes_are_decoded_as_python_does_or_refused(body: bytes, size: int, name: str) -> None:
    try:
        said = b"".join(to_utf8(chunks(body, size), name, lines=True, nul=True))
    except FileRefused as refused:
        assert refused.findings[0].code.value == "ENCODING"
        with pytest.raises(UnicodeError):
            body.decode(name).encode()
        return
    assert said.decode() == body.decode(name).removeprefix("\ufeff")


def test_a_line_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "RECORD_LIMIT", 100)
    assert text(b"x" * 100 + b"\n" + b"y" * 100, "utf-8", size=30)
    assert encoding_fault(b"a\n" + b"x" * 101, "utf-8", size=30) == ("MALFORMED_FILE", 2)
