"""The oracle: whether a lake is as it must be, judged from what is seen in it and from the landed
files alone.

`complaints` is a pure function of what was seen; tests tamper with lakes and see it complain.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.replay.kill.forking import Json, Say
from tests.replay.kill.sight import DATASET, Lake, Source, look

_ORIGIN = ("_batch_id", "_source_object_id", "_source_key", "_source_row", "_partition",
           "_contract_version", "_ingested_at")  # fmt: skip
_SUMMARY = ("lakegate.run-id", "lakegate.dataset")
_END_STATES = {"published", "quarantined", "superseded", "rolled_back"}

#: A row of the table, wherever it came from: file and version, row, order, amount.
Row = tuple[str, int, str, str]


@dataclass(slots=True)
class Judgement:
    """What the oracle says.

    Attributes:
        lost: Rows that must be published and are not.
        doubled: Rows that are published and must not be, or more often than once.
        complaints: A sentence for each thing that is not as it must be.
        digest: What two lakes of one story must have in common.
    """

    lost: int
    doubled: int
    complaints: list[str]
    digest: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        return {
            "lost": self.lost,
            "doubled": self.doubled,
            "complaints": self.complaints,
            "digest": self.digest,
        }


def judge(request: Json, say: Say) -> None:
    """Judge the lake behind an endpoint; for `serve_forks`.

    Args:
        request: `endpoint`, `expected`, and `digest` of the undisturbed lake, if there is one yet.
    """
    judgement = judgement_of(look(request["endpoint"]), request["expected"])
    before = request.get("digest")
    # As both come out of JSON.
    if before is not None and before != json.loads(json.dumps(judgement.digest)):
        judgement.complaints += _differences(before, json.loads(json.dumps(judgement.digest)))
    say(judgement.to_json())


def judgement_of(lake: Lake, expected: Json) -> Judgement:
    """Judge what was seen against what the scenario's author expects."""
    eye = _View(lake, expected)
    must, are = eye.rows_expected(), eye.rows_published()
    lost, surplus = must - are, are - must
    complaints = [
        *(f"lost: {row} is not published" for row in sorted(lost)[:5]),
        *(f"doubled: {row} is published {are[row]} times" for row in sorted(surplus)[:5]),
        *eye.states(),
        *eye.table(),
        *eye.quarantine(),
        *eye.diverted(),
        *eye.batches(),
        *eye.replays(),
        *eye.events(),
    ]
    return Judgement(lost.total(), surplus.total(), complaints, eye.digest())


@dataclass(slots=True)
class _View:
    """A lake beside what it should be."""

    lake: Lake
    expected: Json
    sources: dict[str, Source] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sources = {source.name: source for source in self.lake.sources}
        of = {(s.key, s.version_id): s.name for s in self.lake.sources}
        # The id of an object is the ledger's: which version it is of, the ledger says.
        self.names = {
            object_id: of.get((item["key"], item.get("version_id", "")), f"unknown {object_id}")
            for object_id, item in self.lake.states.items()
        }

    def fate(self, name: str) -> Json:
        return dict(self.expected["fates"].get(name, {"state": "unforeseen", "diverted": []}))

    @property
    def rows(self) -> list[Json]:
        return [row for file in self.lake.files for row in file.rows or ()]

    def name_of(self, object_id: str) -> str:
        return self.names.get(object_id, f"unknown {object_id}")

    # -- Rows

    def rows_expected(self) -> Counter[Row]:
        must: Counter[Row] = Counter()
        for name, source in self.sources.items():
            fate = self.fate(name)
            if fate["state"] != "published":
                continue
            for number, row in enumerate(source.rows, 1):
                if row["note"] not in fate["diverted"]:
                    must[name, number, row["order_id"], row["amount"]] += 1
        return must

    def rows_published(self) -> Counter[Row]:
        return Counter(
            (
                self.name_of(row["_source_object_id"]),
                row["_source_row"],
                row["order_id"],
                str(row["amount"]),
            )
            for row in self.rows
        )

    # -- The ledger

    def states(self) -> Iterator[str]:
        items = {self.names[object_id]: item for object_id, item in self.lake.states.items()}
        if len(items) != len(self.lake.states):
            yield "the ledger has two entries of one version"
        for name in self.sources.keys() - items.keys():
            yield f"{name} is not in the ledger"
        for name in items.keys() - self.sources.keys():
            yield f"the ledger has {name}, which never landed"
        for batch_id in self.lake.pending:
            yield f"batch {batch_id} is pending"
        here = Counter(self.name_of(row["_source_object_id"]) for row in self.rows)
        for name, item in sorted(items.items()):
            yield from self._state(name, item, here[name])

    def _state(self, name: str, item: Json, rows_here: int) -> Iterator[str]:
        state, fate = item["state"], self.fate(name)
        if state not in _END_STATES:
            yield f"{name} is {state}, which is no end state"
        if state != fate["state"]:
            yield f"{name} is {state}; expected {fate['state']}"
        if state == "quarantined" and not item.get("reason"):
            yield f"{name} is in quarantine for no reason"
        if state != "published":
            if rows_here:
                yield f"{name} is {state} and has {rows_here} rows in the table"
            if item.get("published_batch_id"):
                yield f"{name} is {state}, and the ledger has its rows in the table"
            return
        read, published, diverted = (
            int(item.get(count, -1))
            for count in ("rows_read", "rows_published", "rows_quarantined")
        )
        landed = len(self.sources[name].rows) if name in self.sources else -1
        if read != landed or read != published + diverted:
            yield (
                f"{name}: {landed} rows landed, {read} read, {published} published, {diverted} "
                "quarantined: they do not add up"
            )
        if published != rows_here:
            yield f"{name}: the ledger has {published} rows published, the table {rows_here}"
        owners = {
            row["_batch_id"] for row in self.rows if self.name_of(row["_source_object_id"]) == name
        }
        if owners - {item["batch_id"]} or item.get("published_batch_id") != item["batch_id"]:
            yield (
                f"{name} belongs to batch {item['batch_id']}, is published by "
                f"{item.get('published_batch_id')}, and its rows are of {sorted(owners)}"
            )
        head = self.lake.heads.get(item["key"])
        if head is None or self.name_of(head) != name:
            yield f"{name} is published, and the head of its key is {head and self.name_of(head)}"

    # -- The table

    def table(self) -> Iterator[str]:
        lake = self.lake
        yield from (f"{uri} is named by the table and not there" for uri in lake.missing)
        if lake.deletes:
            yield f"{lake.deletes} delete files in a table that is copied on write"
        named = Counter(file.path for file in lake.files)
        yield from (f"{path} is in the snapshot {n} times" for path, n in named.items() if n > 1)
        commits = Counter(
            summary["lakegate.batch-id"]
            for summary in lake.commits
            if "lakegate.batch-id" in summary
        )
        yield from (f"batch {b} was committed {n} times" for b, n in commits.items() if n > 1)
        for file in lake.files:
            if file.rows is None:
                yield f"{file.path} is in the snapshot and not there"
                continue
            if len(file.rows) != file.records:
                yield f"{file.path} has {len(file.rows)} rows, its manifest says {file.records}"
            of = {row["_batch_id"] for row in file.rows}
            if of - commits.keys():
                yield f"{file.path} holds rows of batches that were never committed"
            if of & lake.undone:
                yield f"{file.path} holds rows of a batch that was rolled back"
            place = file.path.split(f"/{DATASET}/", 1)[1].split("/")
            if "/_tables/" not in file.path and of != {place[1]}:
                yield f"{file.path} lies under batch {place[1]} and holds rows of {sorted(of)}"
            if any(row.get(name) is None for row in file.rows for name in _ORIGIN):
                yield f"{file.path} holds a row without its origin"
        for summary in lake.commits:
            if "lakegate.batch-id" in summary and not all(summary.get(n) for n in _SUMMARY):
                yield f"a snapshot of batch {summary['lakegate.batch-id']} does not say of what"

    # -- Quarantine

    def quarantine(self) -> Iterator[str]:
        """A file is in quarantine with an untouched copy and a reason, or it is not there at all,
        or it is marked as released."""
        records = {
            self.name_of(object_id): papers for object_id, papers in self.lake.records.items()
        }
        for name in self.sources:
            fate, papers = self.fate(name), records.get(name, {})
            kept = fate.get("recorded")
            kept = kept if kept is not None else fate["state"] == "quarantined" or fate["released"]
            if kept and not {"record.json", "content"} <= papers.keys():
                yield f"{name} is not whole in quarantine: {sorted(papers)}"
                continue
            if not kept and papers:
                yield f"{name} is in quarantine, where it never should have been"
                continue
            if not kept:
                continue
            if papers["content"] != self.sources[name].body:
                yield f"the copy of {name} in quarantine is not what landed"
            if not json.loads(papers["record.json"]).get("code"):
                yield f"{name} is in quarantine without a code"
            if fate.get("released") != ("released.json" in papers):
                yield f"{name}: released should be {fate.get('released')}"
        yield from (f"{key} was to be cleared away" for key in self.lake.strays)
        for name in records.keys() - self.sources.keys():
            yield f"quarantine has {name}, which never landed"

    def diverted(self) -> Iterator[str]:
        """The rows that a file's batch did not publish are in row quarantine, each once, where its
        verdict says."""
        for object_id, item in self.lake.states.items():
            name = self.names[object_id]
            if item["state"] != "published" or name not in self.sources:
                continue
            verdict = self.lake.verdicts.get(item["batch_id"])
            if verdict is None:
                yield f"{name} is published by batch {item['batch_id']}, which has no verdict"
                continue
            kept: Counter[str] = Counter()
            for staged in verdict["quarantined_rows"]:
                rows = self.lake.diverted.get(staged["uri"])
                if rows is None:
                    yield f"{staged['uri']} is named by a verdict and not there"
                kept.update(
                    row["order_id"] or str(row["_raw"]).partition(",")[0]
                    for row in rows or ()
                    if row["_source_object_id"] == object_id
                )
            must = Counter(
                row["order_id"]
                for row in self.sources[name].rows
                if row["note"] in self.fate(name)["diverted"]
            )
            if kept != must:
                yield f"row quarantine has {sorted(kept.elements())} of {name}, not {sorted(must)}"

    # -- Batches

    def batches(self) -> Iterator[str]:
        if len(self.lake.undone) != self.expected["rolled_back"]:
            yield f"{len(self.lake.undone)} batches are marked as rolled back"
        for batch_id in {row["_batch_id"] for row in self.rows}:
            verdict = self.lake.verdicts.get(batch_id)
            if verdict is None or not verdict["passed"]:
                yield f"rows of batch {batch_id} are visible, whose verdict did not pass"
        for batch_id, verdict in self.lake.verdicts.items():
            if verdict["rows_read"] != verdict["rows_accepted"] + verdict["rows_quarantined"]:
                yield f"the verdict of batch {batch_id} does not add up"

    # -- Replays

    def replays(self) -> Iterator[str]:
        lake = self.lake
        yield from (f"replay {paper} is open" for paper in lake.replays.get("open", ()))
        answers = lake.replays.get("requests", {})
        for replay_id in self.expected["replays"]:
            papers = lake.replays.get(replay_id, {})
            facts = Counter(
                name.partition("-")[2].removesuffix(".json")
                for name in papers
                if name.startswith("audit/")
            )
            asked = [name for name in papers if name.startswith("asked/")]
            must = {"requested", "resolved", "completed"}
            must |= {f"batch-{n:05d}" for n in range(len(asked))}
            if must - facts.keys() or any(n > 1 for n in facts.values()):
                yield f"the audit record of {replay_id} holds {dict(facts)}, not each fact once"
            if "completed.json" not in papers:
                yield f"replay {replay_id} has not come to its end"
            elif json.loads(papers["completed.json"])["outcomes"].get("unfinished"):
                yield f"replay {replay_id} left objects unfinished"
            if f"{replay_id}.accepted.json" not in answers:
                yield f"the request of {replay_id} is not answered"

    # -- Events

    def events(self) -> Iterator[str]:
        """What happened was told, at least once; nothing was told that did not happen."""
        told: dict[str, set[str]] = {}
        for name, detail in self.lake.events:
            told.setdefault(name, set()).add(detail["batch_id"] or detail["replay_id"])
        commits = {s["lakegate.batch-id"] for s in self.lake.commits if "lakegate.batch-id" in s}
        judged = {b for b, v in self.lake.verdicts.items() if v["passed"]}
        replays = set(self.expected["replays"])
        for name, must in (
            ("Published", commits),
            ("DQPassed", judged),
            ("RolledBack", self.lake.undone),
            ("ReplayStarted", replays),
            ("ReplayCompleted", replays),
        ):
            of = told.get(name, set())
            yield from (f"no {name} was sent of {one}" for one in sorted(must - of))
            yield from (f"{name} was sent of {one}, falsely" for one in sorted(of - must))
        refused = {
            self.lake.states[object_id]["batch_id"]
            for object_id in self.lake.states
            if self.lake.states[object_id]["state"] == "quarantined"
        }
        for one in sorted(refused - told.get("Quarantined", set())):
            yield f"no Quarantined was sent of {one}"

    # -- What two lakes have in common

    def digest(self) -> Json:
        papers = {
            replay_id: json.loads(papers["completed.json"])
            for replay_id in self.expected["replays"]
            if "completed.json" in (papers := self.lake.replays.get(replay_id, {}))
        }
        return {
            "rows": sorted([*row, count] for row, count in self.rows_published().items()),
            "states": {
                self.names[object_id]: [
                    item.get(name)
                    for name in ("state", "reason", "rows_read", "rows_published",
                                 "rows_quarantined", "contract_version", "content_hash")
                    # Two versions of a key may be asked for at once, and then either run may be
                    # the first: whether the older was visible for a while is nobody's promise.
                    if (item.get("state"), name) != ("superseded", "rows_published")
                ]
                for object_id, item in self.lake.states.items()
            },
            "heads": {key: self.name_of(head) for key, head in self.lake.heads.items()},
            "records": {
                self.name_of(object_id): [
                    sorted(papers),
                    json.loads(papers.get("record.json", b"{}")).get("code"),
                ]
                for object_id, papers in self.lake.records.items()
            },
            "commits": sum("lakegate.batch-id" in summary for summary in self.lake.commits),
            "rolled_back": len(self.lake.undone),
            "replays": {
                replay_id: [end["outcomes"], end["rows_before"], end["rows_after"]]
                for replay_id, end in papers.items()
            },
        }  # fmt: skip


def _differences(before: Json, now: Json) -> list[str]:
    return [
        f"{what} are not those of an undisturbed run: {_short(now[what], before[what])}"
        for what in before
        if before[what] != now[what]
    ]


def _short(now: object, before: object) -> str:
    if isinstance(now, dict) and isinstance(before, dict):
        keys = sorted(k for k in now.keys() | before.keys() if now.get(k) != before.get(k))
        return "; ".join(f"{k} is {now.get(k)}, was {before.get(k)}" for k in keys)
    if isinstance(now, list) and isinstance(before, list):
        return f"{len(now)} and {len(before)}"
    return f"{now}, was {before}"
