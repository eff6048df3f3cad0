"""The form of a result: DESIGN §5's keys, the exit status, the log."""

import json
import math
from pathlib import Path

import pytest

from headstart.benchmarks import report as report_module
from headstart.benchmarks.checks import Bar, Check, Verdict, not_measured
from headstart.benchmarks.estimates import Estimate, exactly
from headstart.benchmarks.machine import Machine, Origin
from headstart.benchmarks.report import Report, Table, append_to_log, write

BAR = Bar("throughput", 0.97, "higher", "ratio")
ORIGIN = Origin(
    date="2026-05-04T10:00:00+00:00",
    commit="0123456789abcdef",
    is_tree_clean=True,
    machine=Machine("a processor", 2, 24, "6.1", "3.11.7", {"ray": "2.60.0"}, 0.1),
)


def check(verdict: Verdict) -> Check:
    return Check(BAR, Estimate(0.98, 0.97, 0.99, 20), verdict)


def report(*checks: Check, is_quick: bool = False) -> Report:
    table = Table("Figures", ("arm", "tokens_per_s"), (("ours", 1.5), ("theirs", math.inf)))
    return Report("overhead", ORIGIN, is_quick, {"seed": 1}, [table], checks, 61.0)


@pytest.mark.parametrize(
    ("verdict", "full", "quick"),
    [
        (Verdict.HOLDS, 0, 0),
        (Verdict.FAILS, 1, 1),
        (Verdict.UNDECIDED, 1, 0),
        (Verdict.NOT_MEASURED, 0, 0),
    ],
)
def test_exit_status(verdict: Verdict, full: int, quick: int) -> None:
    checks = (check(Verdict.HOLDS), check(verdict))
    assert report(*checks).exit_status == full
    assert report(*checks, is_quick=True).exit_status == quick


def test_json_has_the_keys_of_the_design() -> None:
    tree = json.loads(report(check(Verdict.HOLDS), not_measured(BAR, "no data")).to_json())
    assert tree["commit"] == ORIGIN.commit
    assert tree["machine"]["num_cores"] == 2
    assert tree["config"] == {"seed": 1}
    first, second = tree["checks"]
    wanted = {"name": "throughput", "value": 0.98, "bar": 0.97, "better": "higher"}
    assert first | wanted | {"verdict": "holds"} == first
    assert first["half_width"] == pytest.approx(0.01)
    assert (second["verdict"], second["value"], second["note"]) == ("not_measured", None, "no data")
    assert tree["tables"][0]["rows"] == [["ours", 1.5], ["theirs", None]]


def test_infinite_interval_is_null_in_json_and_absent_in_the_text() -> None:
    few = Check(BAR, Estimate(0.98, -math.inf, math.inf, 3), Verdict.UNDECIDED)
    [shown] = json.loads(report(few).to_json())["checks"]
    assert (shown["value"], shown["low"], shown["half_width"]) == (0.98, None, None)
    assert "95 %: -)" in report(few).to_text()


def test_full_runs_are_logged_bad_ones_too_and_quick_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "LOG.md"
    log.write_text("# Log\n")
    monkeypatch.setattr(report_module.append_to_log, "__defaults__", (log,))

    write(report(check(Verdict.FAILS), is_quick=True), tmp_path / "quick.json")
    assert log.read_text() == "# Log\n"

    write(report(check(Verdict.FAILS), Check(BAR, exactly(1.0), Verdict.HOLDS)), tmp_path / "out")
    text = log.read_text()
    assert text.startswith("# Log\n\n## 2026-05-04 overhead\n\nCommit 0123456789ab; a processor, ")
    assert "| throughput (ratio) | 0.98 | 0.97 to 0.99 | ≥ 0.97 | 20 | fails |\n" in text
    assert "| throughput (ratio) | 1 | exact | ≥ 0.97 | 1 | holds |\n" in text
    assert json.loads((tmp_path / "out").read_text())["name"] == "overhead"
    assert "FAILS" in capsys.readouterr().out


def test_without_a_log_nothing_is_made(tmp_path: Path) -> None:
    append_to_log(report(check(Verdict.HOLDS)), tmp_path / "LOG.md")
    assert not list(tmp_path.iterdir())
