"""The page of results says what the files say, and the files beside it make it again."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.benchmarks import results_data
from headstart.benchmarks.checks import Bar, judge
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.machine import Machine, Origin, commits_since, here
from headstart.benchmarks.report import Report, Table
from headstart.benchmarks.results_data import TRANSPORT, load
from headstart.benchmarks.results_text import plain
from headstart.benchmarks.results_transport import run
from headstart.stages.errors import SetupError

ORIGIN = Origin(
    "2026-01-02T03:04:05+00:00",
    "c0ffee" * 6,
    True,
    Machine("a processor", 2, 24, "6", "3", {}, 0.5),
)
WIDE = (
    *("cell", "answers", "loss", "TCP's excess", "copies", "duplication's excess"),
    *("Eloquent's excess", "our excess", "ours / TCP's", "ours / duplication's"),
    *("our paper stall", "TCP's paper stall", "our p95 ms", "TCP's p95 ms", "our bytes/token"),
    *("of SSE's", "our datagrams/s", "given up"),
)
PAPER = (
    *("cell", "scheme", "paper's stall ratio", "stall share", "excess stall share"),
    *("wire bytes/token", "Eloquent's change", "our change", "given up"),
)


def wide(cell: str, tcp: float, ours: float) -> tuple[str | float | int | None, ...]:
    ratio = ours / tcp if tcp else None
    excess = (tcp, 2, 0.5 * tcp, 0.25 * tcp, ours, ratio, None)
    return (cell, 20, 0.1, *excess, ours, tcp, 30.0, 300.0, 123.456, 0.4, 40.0, 0)


def transport() -> Report:
    lossy = (
        wide("random 5 %, RTT 50 ms, 20 tok/s", 0.1, 0.01),
        wide("random 10 %, RTT 50 ms, 20 tok/s", 0.2, 0.01),
        wide("random 20 %, RTT 50 ms, 100 tok/s", 0.3, 0.234567891),
    )
    paper = [
        ("default channel, RTT 400 ms", name, 0.2, stall, stall, cost, 0.0, 0.0, 0)
        for name, stall, cost in (("retransmission", 0.4, 360.7), ("ours", 0.06, 282.1))
    ]
    line = [(name, 0.1, 0.2 + late) for name, late in (("retransmission", 1.0), ("ours", 0.0))]
    check = judge(Bar("some_bar", 0.29, "lower", "ratio"), exactly(0.7), note="worst of 3 | cells")
    return Report(
        name="transport",
        origin=ORIGIN,
        is_quick=True,
        config={},
        tables=[
            Table("The paper's grid: changes", PAPER, tuple(paper)),
            Table("Cells: lossy", WIDE, lossy),
            Table("Cells: as on the real link", WIDE, (wide("random 10 %, RTT 100 ms", 0.2, 0.0),)),
            Table(
                "One answer in the simulator: a path", ("scheme", "made s", "shown s"), tuple(line)
            ),
        ],
        checks=[check],
        duration_s=61.0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "found"
    found.mkdir()
    (found / "whatever.json").write_text(transport().to_json())
    return found


def page(folder: Path, target: Path) -> str:
    assert run(folder, target) == 0
    return (target / "transport.md").read_text()


def test_page_says_what_was_found_where_and_how(folder: Path, tmp_path: Path) -> None:
    text = page(folder, tmp_path / "page")

    assert "`headstart bench transport --json transport.json --quick`" in text
    where = (
        "2026-01-02 03:04 | c0ffeec0ffee | measured on other code | a processor, 2 cores, 24 GiB"
    )
    assert f"{where} | 0.5 | 1 min |" in text
    assert (
        "| transport | some_bar | 0.7 | exact | ≤ 0.29 ratio | **fails** | worst of 3 / cells |"
        in text
    )
    assert "decides nothing" in text
    assert "| random 10 %, RTT 100 ms | simulator | ours | 20 | 0.00 % | - | 30 | 123 |" in text
    assert "default channel, RTT 400 ms | retransmission | -71.0% | not measured" in text


@pytest.mark.parametrize(
    ("count", "age"), [(None, "measured on other code"), (0, "this code"), (7, "7 commits ago")]
)
def test_page_says_how_old_the_code_of_a_result_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, age: str
) -> None:
    monkeypatch.setattr(results_data, "commits_since", lambda commit, folders: count)

    text = page(folder, tmp_path / "page")

    assert f"when this page was made: transport: {age}." in text
    assert f"| c0ffeec0ffee | {age} |" in text


def test_commits_are_counted_from_an_earlier_one_of_this_repository() -> None:
    head = here().commit
    if head is None:
        pytest.skip("no git here")

    assert commits_since(head, TRANSPORT.measured) == 0
    assert commits_since("c0ffee" * 6 + "c0ff", TRANSPORT.measured) is None
    assert commits_since(None, TRANSPORT.measured) is None


@pytest.mark.parametrize(
    ("value", "cell"),
    [(None, "-"), (123.4, "123"), (0.12345, "0.123"), (0.1 + 0.2 - 0.3, "0"), (2e-6, "2e-06")],
)
def test_cells_have_the_digits_that_mean_something(value: float | None, cell: str) -> None:
    assert plain(value) == cell


def test_cells_that_ours_loses_are_listed(folder: Path, tmp_path: Path) -> None:
    text = page(folder, tmp_path / "page")

    cell = "random 20 %, RTT 50 ms, 100 tok/s"
    losing = text.partition("## Where ours loses")[2].partition("\n## ")[0]
    assert [line for line in losing.splitlines() if cell in line] == [
        f"| simulator | {cell} | duplication | 15.00 % | 23.46 % |",
        f"| simulator | {cell} | Eloquent | 7.50 % | 23.46 % |",
    ]
    assert "**Ours loses** 2 comparisons of stalls and waits, and is the dearer one in 0 of" in text


def test_plots_are_drawn_and_the_same_for_the_same_figures(folder: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    text = page(folder, first)

    # From what lies beside the page, not from where it was.
    assert page(first / "data", again) == text
    plots = {"transport-stalls.svg", "transport-timeline.svg", "transport-bytes.svg"}
    assert {path.name for path in first.glob("*.svg")} == plots
    for name in (*plots, "data/transport.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert f"({name})" in text
    assert "RTT 50 ms, 100 tok/s" in (first / "transport-stalls.svg").read_text()


def test_what_is_missing_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    tree: dict[str, Any] = json.loads((folder / "whatever.json").read_text())
    tree["tables"] = []
    (folder / "whatever.json").write_text(json.dumps(tree))

    text = page(folder, tmp_path / "page")

    assert text.count("Not in these results: `headstart bench transport`") == 4
    assert not list((tmp_path / "page").glob("*.svg"))


def test_the_newest_result_of_each_benchmark_counts(folder: Path) -> None:
    tree = json.loads((folder / "whatever.json").read_text())
    (folder / "an-older-one.json").write_text(
        json.dumps(tree | {"date": "2025-01-01", "mode": "full"})
    )
    (folder / "another.json").write_text(json.dumps(tree | {"name": "soak"}))

    assert {name: result.tree["mode"] for name, result in load(folder, TRANSPORT).items()} == {
        "transport": "quick"
    }


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="headstart bench transport"):
        load(tmp_path, TRANSPORT)
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(SetupError, match=r"odd\.json is no result"):
        load(tmp_path, TRANSPORT)
