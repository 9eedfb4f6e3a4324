"""Replay manifests: what is to be processed once more, and why, as people and programs write it.

The model is closed: a key that it does not know is refused, because a misspelled option that is
ignored could replay what nobody meant. Every problem is a sentence, and all of them are told at
once. `docs/replay-manifest.md` is generated from here.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from service_core.ledger import State
from service_core.reasons import ReasonCode

#: A request is read whole. A longer list of files than fits is several replays, or a selector.
MAX_BYTES = 4 * 1024 * 1024
MAX_FILES = 10_000

REPLAY_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
#: Folders that lie beside those of the replays.
RESERVED_IDS = frozenset({"requests", "open"})

_Text = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]


class _Part(BaseModel):
    """A part of a request: camelCase outside, closed, nothing coerced."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class ReplayFile(_Part):
    """One landed object."""

    bucket: _Text = Field(description="The raw bucket.")
    key: _Text = Field(description="The object's key, exactly as S3 gives it.")
    version_id: _Text | None = Field(
        default=None, description="Which version of it; the latest where none is named."
    )


class PartitionRange(_Part):
    """Landing partitions from one to another, both of them included."""

    from_: _Text = Field(alias="from", description="The first, such as `2026-11-01`.")
    to: _Text = Field(description="The last; the same as `from` for a single partition.")


class Selector(_Part):
    """What a source object must be to be replayed. Everything that is said must hold."""

    partitions: PartitionRange | None = Field(default=None, description="Where it landed.")
    key_prefix: _Text | None = Field(
        default=None, description="What its key begins with; the whole key counts."
    )
    reason_codes: tuple[ReasonCode, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=len(ReasonCode),
        description="It, or rows of it, are in quarantine for one of these reasons.",
    )
    contract_version: _Text | None = Field(
        default=None, description="The version of the contract that it was last processed under."
    )
    state: State | None = Field(default=None, description="Where the ledger has it.")
    batch_id: _Text | None = Field(default=None, description="A batch that it was part of.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set or all(v is None for _, v in self):
            raise ValueError(
                "the selector selects by nothing; name at least one of partitions, keyPrefix, "
                "reasonCodes, contractVersion, state and batchId"
            )
        return self


class Options(_Part):
    """How to replay."""

    force: bool = Field(
        default=False,
        description="Process even what is published wholly under this version of the contract, "
        "and judge anew what has been judged before: for a fix of code.",
    )
    dry_run: bool = Field(
        default=False,
        description="Go as far as the verdict, and report the difference that publishing would "
        "make.",
    )
    skip_if_published: bool = Field(
        default=False,
        description="Skip whatever is published, under whatever version, wholly or in part.",
    )
    contract_version: _Text | None = Field(
        default=None,
        description="Replay under this version of the contract, or `<version>-<hash>` of it, "
        "instead of the one in force.",
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.force and self.skip_if_published:
            raise ValueError(
                "with force, what is published is processed; with skipIfPublished, it is skipped: "
                "choose one of them"
            )
        return self


class ReplayRequest(_Part):
    """One object, which names either `files` or a `selector`."""

    replay_id: str = Field(
        pattern=REPLAY_ID,
        description="The replay's name, chosen by who asks: up to 64 letters, digits, `_`, `.` "
        "and `-`. The same id with the same content is the same replay; with other content it is "
        "refused.",
    )
    reason: str = Field(
        min_length=1, max_length=2_000, description="Why; kept in the replay's audit record."
    )
    requested_by: _Text | None = Field(default=None, description="Who or what asks.")
    dataset: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="The data set.")
    files: tuple[ReplayFile, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_FILES,
        description="The very objects; this or a selector.",
    )
    selector: Selector | None = Field(default=None, description="Which objects; this or files.")
    options: Options = Field(default=Options(), description="How.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.files is None) == (self.selector is None):
            raise ValueError(
                "there must be either files or a selector, and there "
                + ("is neither" if self.files is None else "are both")
            )
        if self.replay_id in RESERVED_IDS:
            raise ValueError(f"the replayId {self.replay_id!r} is reserved; choose another")
        if not self.reason.strip():
            raise ValueError("the reason is blank; say why the replay is asked for")
        return self

    def to_json(self) -> str:
        """The manifest as text, which is the same for the same content."""
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=2)


class RequestRejected(Exception):
    """A request that cannot be carried out; `problems` are sentences."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = tuple(problems)


def parse_request(body: bytes) -> ReplayRequest:
    """A replay manifest from its text.

    Raises:
        RequestRejected: it is none; every problem is told.
    """
    if len(body) > MAX_BYTES:
        raise RequestRejected([too_large(len(body))])
    try:
        json.loads(body, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RequestRejected(
            [f"The manifest is not UTF-8 at byte {error.start}; write it as UTF-8."]
        ) from error
    except json.JSONDecodeError as error:
        raise RequestRejected(
            [f"The manifest is not JSON: line {error.lineno}, column {error.colno}: {error.msg}."]
        ) from error
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestRejected([f"The manifest is not JSON that can be used: {why}."]) from error
    try:
        return ReplayRequest.model_validate_json(body.removeprefix(b"\xef\xbb\xbf"), by_name=False)
    except ValidationError as invalid:
        raise RequestRejected(_sentences(invalid)) from invalid


def too_large(size: int) -> str:
    """The sentence against a request of so many bytes."""
    return (
        f"The manifest has {size:,} bytes; at most {MAX_BYTES:,} are read. Ask for several "
        "replays, or use a selector."
    )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_shown(twice)} stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_PROBLEMS_TOLD = 20


def _sentences(invalid: ValidationError) -> list[str]:
    found = invalid.errors(include_url=False)
    # A list whose items are at fault is also called too short.
    problems = [
        one
        for one in found
        if one["type"] != "too_short"
        or not any(o["loc"][: len(one["loc"])] == one["loc"] for o in found if o is not one)
    ]
    told = [_sentence(problem) for problem in problems[:_PROBLEMS_TOLD]]
    if len(problems) > _PROBLEMS_TOLD:
        told.append(f"There are {len(problems) - _PROBLEMS_TOLD} more problems like these.")
    return told


def _sentence(problem: Any) -> str:
    *above, last = problem["loc"] or ("",)
    place = _place(problem["loc"])
    match problem["type"]:
        case "missing":
            return f"`{place}` is missing; docs/replay-manifest.md says what it holds."
        case "extra_forbidden":
            inside = f" in `{_place(above)}`" if above else ""
            return (
                f"`{_shown(str(last))}` is no key of a replay manifest{inside}; take it out, or "
                "see docs/replay-manifest.md for what it knows."
            )
        case "value_error":
            said = str(problem["ctx"]["error"])
            return f"{said[:1].upper()}{said[1:]}{f' (in `{place}`)' if place else ''}."
        case _:
            because = (problem["msg"][:1].lower() + problem["msg"][1:]).replace("tuple", "list")
            found = problem["input"]
            shown = "" if isinstance(found, dict | list | tuple) else f" is {_shown(found)}, and"
            return f"`{place or 'the manifest'}`{shown} cannot be: {because}."


def _place(steps: Any) -> str:
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in steps
    ).lstrip(".")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    printable = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= 80 else f"{printable[:79]}…"
