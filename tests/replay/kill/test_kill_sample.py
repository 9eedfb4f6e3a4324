"""A sample of the campaign that `make test-kill` runs whole, and proof that its oracle sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.replay.kill.__main__ import summary
from tests.replay.kill.boundaries import boundary_of
from tests.replay.kill.campaign import Campaign, Case, Outcome, Rehearsed, campaign, one_of_each
from tests.replay.kill.tampering import TAMPERING, Spoiler


@pytest.fixture(scope="module")
def kills() -> Iterator[Campaign]:
    with campaign() as kills:
        yield kills


@pytest.fixture(scope="module")
def path(kills: Campaign) -> Rehearsed:
    """The path, played once undisturbed."""
    kills.rehearse(kills.scenarios["landed"])
    return kills.rehearse(kills.scenarios["path"])


@pytest.mark.soak
def test_a_path_killed_at_any_kind_of_boundary_ends_as_if_it_had_not_been(
    kills: Campaign, path: Rehearsed
) -> None:
    assert path.complaints == ()
    cases = one_of_each(path)
    assert {path.boundaries[case.number - 1].split(" ")[0] for case in cases} >= {
        "s3:PutObject",
        "s3:CopyObject",
        "dynamodb:PutItem",
        "dynamodb:DeleteItem",
        "dynamodb:TransactWriteItems",
        "glue:CreateDatabase",
        "glue:CreateTable",
        "glue:UpdateTable",
        "events:PutEvents",
    }
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda case: kills.run(case, path), cases))
    wrong = {str(outcome.case): outcome.complaints for outcome in outcomes if outcome.complaints}
    assert wrong == {}
    assert json.loads(summary(outcomes, 1.0)) == {
        "points": len(cases),
        "lost": 0,
        "doubled": 0,
        "seconds": 1.0,
    }


@pytest.mark.soak
def test_the_oracle_complains_of_whatever_is_spoilt(kills: Campaign, path: Rehearsed) -> None:
    unseen = {}
    for what, (spoil, words) in TAMPERING.items():
        with kills.copy_of(path.checkpoints[-1]) as (endpoint, _):
            spoil(Spoiler(endpoint))
            judged = kills.judge(endpoint, path.scenario)
        if not any(words in complaint for complaint in judged["complaints"]):
            unseen[what] = judged["complaints"]
        if what == "a row published twice":
            assert (judged["lost"], judged["doubled"]) == (0, 1)
        elif what == "a row taken out":
            assert (judged["lost"], judged["doubled"]) == (1, 0)
    assert unseen == {}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "said"),
    [
        ("GET", "/b/k", "", {}, None),
        ("HEAD", "/b/k", "", {}, None),
        ("PUT", "/b/k", "", {}, "s3:PutObject b/k"),
        ("PUT", "/b/k", "", {"x-amz-copy-source": "b/j"}, "s3:CopyObject b/k"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", {}, "s3:UploadPart b/k"),
        ("POST", "/b/k", "uploads=", {}, "s3:CreateMultipartUpload b/k"),
        ("POST", "/b/k", "uploadId=u", {}, "s3:CompleteMultipartUpload b/k"),
        ("POST", "/b", "delete", {}, "s3:DeleteObjects b"),
        ("DELETE", "/b/k", "", {}, "s3:DeleteObject b/k"),
        ("POST", "/", "", {"x-amz-target": "DynamoDB_20120810.BatchGetItem"}, None),
        ("POST", "/", "", {"x-amz-target": "AWSGlue.UpdateTable"}, "glue:UpdateTable"),
        ("POST", "/", "", {"x-amz-target": "AWSGlue.Whatever"}, "glue:Whatever"),
    ],
)
def test_whatever_is_not_known_to_read_is_a_boundary(
    method: str, path: str, query: str, headers: dict[str, str], said: str | None
) -> None:
    service = "s3" if "x-amz-target" not in headers else "glue"
    scope = f"AWS4-HMAC-SHA256 Credential=e/20261121/us-east-1/{service}/aws4_request, "
    found = boundary_of(method, path, query, {**headers, "authorization": scope}, b"")
    assert (None if found is None else str(found)) == said


def test_a_case_is_found_again_by_its_name() -> None:
    case = Case("path", 7, after=True)
    assert Case.named(str(case)) == case
    for name in ("path", "path/x-after", "path/7-later"):
        with pytest.raises(ValueError, match="no case"):
            Case.named(name)


def test_the_last_line_adds_up() -> None:
    outcomes = [Outcome(Case("path", n, after=False), "", n, n * 2, ("lost",), 0.1) for n in (1, 2)]
    assert json.loads(summary(outcomes, 12.34)) == {
        "points": 2,
        "lost": 3,
        "doubled": 6,
        "seconds": 12.3,
    }
