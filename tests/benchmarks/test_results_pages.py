"""The pages of decoding and of the journey say what the files say, whatever is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.benchmarks import (
    journey_scores,
    results_consistency,
    results_decoding,
    results_drafters,
    results_journey,
)
from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.report import Report, Table
from headstart.stages.errors import SetupError
from tests.benchmarks.test_journey import arms_like
from tests.benchmarks.test_results import ORIGIN

Run = Callable[[Path, Path], int]


def journey() -> Report:
    found = arms_like(0.3, 2.0)
    checks = list(journey_scores.checks(found, is_quick=False))
    config = {"rival": "as it comes", "engine_environment": {"LD_PRELOAD": "/somewhere/lib.so"}}
    return Report("journey", ORIGIN, False, config, journey_scores.tables(found), checks, 60.0)


def decode() -> Report:
    speeds = Table(
        "Speed on answers that do not loop; differing answers are of the model's own format",
        (
            *("task", "concurrency", "lane", "tokens_per_s", "over_plain", "decode_over_plain"),
            *("tokens_per_step", "acceptance", "differing", "answers"),
        ),
        tuple(
            (task, size, lane, 40.0 * over, over, over, None, None, 0, 3)
            for task, copy in (("edit", 2.5), ("free", 1.6))
            for size in (1, 4)
            for lane, over in (("plain", 1.0), ("copy", copy), ("auto", 1.125), ("table", 1.1))
            if lane != "table" or task == "edit"
        ),
    )
    costs = Table(
        "Cost of verifying, one request",
        ("tokens", "step_s", "over_one"),
        ((1, 0.02, 1.0), (2, 0.022, 1.1), (16, 0.04, 2.0)),
    )
    replays = Table(
        "Replayed drafts of 8 tokens, one request",
        ("right", "tokens_per_step", "over_plain", "step_cost", "of_what_is_possible"),
        ((2, 2.5, 1.5, 1.6, 0.96), (8, 9.0, 5.5, 1.5, 0.92)),
    )
    compared = Table(
        "Answers in float32 beside the plain engine's",
        ("engine", "at_once", "mode", "answers", "same", "ties", "different"),
        (("exact forced", 1, "auto", 30, 30, 0, 0), ("exact forced", 4, "copy", 40, 38, 1, 1)),
    )
    check: Check = judge(Bar("auto_over_plain_free_x1", 0.97, "higher", "ratio"), exactly(1.125))
    return Report("decode", ORIGIN, False, {}, [speeds, costs, replays, compared], [check], 60.0)


def page(run: Run, report: Report, folder: Path) -> str:
    source = folder / "found"
    source.mkdir()
    (source / "whatever.json").write_text(report.to_json())
    assert run(source, folder / "page") == 0
    (path,) = (folder / "page").glob("*.md")
    return path.read_text()


def test_the_journey_is_told_beside_the_rivals(tmp_path: Path) -> None:
    text = page(results_journey.run, journey(), tmp_path)

    assert "**To the first token** 0.149 of the time of `vllm serve`" in text
    assert "the goal of 0.2 is reached" in text
    assert "**Live**: 0.802 of the time to the first token, 0.8 of that to the last." in text
    assert "10.00 % of the prompts' tokens were computed in vain" in text
    assert "- rival: as it comes." in text
    assert "| journey | first_token_of_vllm_serve | 0.149 |" in text


def test_decoding_is_told_by_load(tmp_path: Path) -> None:
    text = page(results_decoding.run, decode(), tmp_path)

    said = "**4 at once**: times the speed of plain vLLM, mean of 2 sets (lowest to highest): "
    assert said + "copy 2 (1.6 free to 2.5 edit), auto 1.12 (1.12 edit to 1.12 edit)." in text
    assert "table" not in text.partition("## Speed")[0]  # it has a part in one set only
    assert "**Plumbing**: at least 92.00 % of what right drafts could gain." in text
    assert "**Exactness**: 68 of 70 answers in float32 are plain vLLM's." in text
    assert "| decode | auto_over_plain_free_x1 | 1.12 | exact | ≥ 0.97 ratio | holds |" in text


@pytest.mark.parametrize(
    ("run", "report", "plots"),
    [
        (results_journey.run, journey(), {"journey-parts.svg", "journey-growth.svg"}),
        (results_decoding.run, decode(), {"decoding-speeds.svg", "decoding-verifying.svg"}),
    ],
)
def test_pages_are_made_again_from_what_lies_beside_them(
    run: Run, report: Report, plots: set[str], tmp_path: Path
) -> None:
    text = page(run, report, tmp_path)
    first, again = tmp_path / "page", tmp_path / "again"

    assert run(first / "data", again) == 0
    assert {path.name for path in first.glob("*.svg")} == plots
    for path in (*first.glob("*.*"), *first.glob("data/*")):
        assert path.read_bytes() == (again / path.relative_to(first)).read_bytes()
    assert all(f"({name})" in text for name in plots)
    assert "/somewhere" not in "".join(path.read_text() for path in first.glob("data/*"))


@pytest.mark.parametrize(
    ("run", "name"), [(results_consistency.run, "consistency"), (results_drafters.run, "drafters")]
)
def test_the_pages_of_what_was_trained_are_what_the_code_makes(
    run: Run, name: str, tmp_path: Path
) -> None:
    here = Path(results_consistency.__file__).parents[1] / "docs/results"

    assert run(here / "data", tmp_path) == 0

    for file in (f"{name}.md", f"data/{name}.json"):
        assert (tmp_path / file).read_text() == (here / file).read_text(), file


@pytest.mark.parametrize(
    ("run", "report"), [(results_journey.run, journey()), (results_decoding.run, decode())]
)
def test_what_is_missing_is_said_to_be(run: Run, report: Report, tmp_path: Path) -> None:
    tree = json.loads(report.to_json())
    tree["tables"] = []
    for check in tree["checks"]:
        check |= {"value": None, "verdict": "not_measured"}
    (tmp_path / "bare.json").write_text(json.dumps(tree))

    assert run(tmp_path, tmp_path / "page") == 0
    (path,) = (tmp_path / "page").glob("*.md")
    assert "Not measured." in path.read_text()
    assert not list((tmp_path / "page").glob("*.svg"))


@pytest.mark.parametrize(
    ("run", "name"), [(results_journey.run, "journey"), (results_decoding.run, "decode")]
)
def test_a_folder_without_its_result_is_refused(run: Run, name: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"headstart bench {name}"):
        run(tmp_path, tmp_path / "page")
