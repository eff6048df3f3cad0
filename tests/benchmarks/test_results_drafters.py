"""The page of drafters says what the evaluations say, language by language, and no more."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.drafters_bars import Asked, best_arm, judged
from headstart.benchmarks.drafters_runs import by_set, load
from headstart.benchmarks.language import TRAINED
from headstart.benchmarks.results_drafters import run
from headstart.stages.errors import SetupError

LENGTHS = {"none": 1.0, "table-PF": 2.0, "table-F": 1.8, "table-generic": 1.2, "table-wrong": 1.1}
SPEEDS = {"none": 1.0, "ngram": 1.1, "table-PF": 1.3, "table-F": 1.2, "auto": 1.25}
NUM = 40


def figures(
    language: str,
    lengths: dict[str, float] | None = None,
    speeds: dict[str, float] | None = None,
    **more: Any,
) -> dict[str, Any]:
    lengths, speeds = lengths or LENGTHS, SPEEDS if speeds is None else speeds
    replayed = {
        name: {"accepted_length": value, "half_width": 0.01} for name, value in lengths.items()
    }
    rows = {
        name: [[60 + n % 7, round((60 + n % 7) / value)] for n in range(NUM)]
        for name, value in lengths.items()
    }
    turns = [
        {
            "temperature": temperature,
            "prompts": [n],
            "loops": False,
            "arms": {
                name: {
                    "gained": 60,
                    "seconds": (2 + n % 5 / 10) / value,
                    "tokens": 61,
                    "steps": round(30 / value),
                }
                for name, value in speeds.items()
            },
        }
        for n in range(NUM)
        for temperature in (0.0, 1.0)
        if speeds
    ]
    return {
        "language": language,
        "asked": "translate_to_en",
        "kinds": {name: "table" for name in lengths if name != "none"},
        "replayed": {"0.0": replayed, "1.0": replayed},
        "replayed_rows": {"0.0": rows, "1.0": rows},
        "looping_answers": {"0.0": 3, "1.0": 0},
        "learned_tokens": {},
        "timed_rows": turns,
        "prompts": NUM,
    } | more


def write(folder: Path, name: str, tree: dict[str, Any]) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "figures.json").write_text(json.dumps(tree))


def of(trees: list[dict[str, Any]], folder: Path) -> dict[str, Asked]:
    for number, tree in enumerate(trees):
        write(folder, f"eval-{number}", tree)
    (found,) = by_set(load(folder)).values()
    return {each.title: each for each in judged(found)}


def test_bars_hold_where_every_language_keeps_them(tmp_path: Path) -> None:
    found = of([figures(language) for language in TRAINED], tmp_path)

    assert {title: each.verdict for title, each in found.items()} == {
        "tables: tokens a step": Verdict.HOLDS,
        "tables: tokens a step, times the text's alone": Verdict.HOLDS,
        "tables: tokens a step, P-F times F": Verdict.HOLDS,
        "tables: tokens a step, times another language's": Verdict.HOLDS,
        "table-PF: tokens a second, times plain, T = 0": Verdict.HOLDS,
        "auto: tokens a step, T = 0": Verdict.HOLDS,
        "auto: tokens a second, times copying alone, T = 0": Verdict.HOLDS,
        "auto: tokens a second, times plain": Verdict.HOLDS,
    }


def test_one_language_may_miss_a_bar_of_four_and_none_a_bar_of_five(tmp_path: Path) -> None:
    bad = {**LENGTHS, "table-PF": 1.15, "table-wrong": 1.5}
    trees = [figures("de", bad, {**SPEEDS, "table-PF": 1.0, "auto": 0.9})]
    found = of([*trees, *(figures(language) for language in TRAINED[1:])], tmp_path)

    assert found["tables: tokens a step"].verdict is Verdict.FAILS
    assert found["tables: tokens a step, P-F times F"].verdict is Verdict.FAILS
    assert found["tables: tokens a step, times another language's"].verdict is Verdict.HOLDS
    assert found["table-PF: tokens a second, times plain, T = 0"].verdict is Verdict.HOLDS
    assert found["auto: tokens a second, times plain"].verdict is Verdict.FAILS
    behind = found["auto: tokens a second, times copying alone, T = 0"]
    assert behind.checks["de"].verdict is behind.verdict is Verdict.FAILS
    assert behind.checks["fr"].verdict is Verdict.HOLDS
    checks = found["tables: tokens a step"].checks
    assert [each.verdict is Verdict.FAILS for each in checks.values()] == [True] + 4 * [False]


def test_what_is_as_good_as_another_is_not_ahead_and_what_varies_too_much_is_open(
    tmp_path: Path,
) -> None:
    level = {**LENGTHS, "table-F": LENGTHS["table-PF"]}
    trees = [figures(language, level) for language in TRAINED]
    for tree in trees:
        for number, row in enumerate(tree["timed_rows"]):
            row["arms"]["auto"]["seconds"] *= 0.5 + number % 3
    found = of(trees, tmp_path)

    assert found["tables: tokens a step, P-F times F"].verdict is Verdict.UNDECIDED
    assert found["auto: tokens a second, times plain"].verdict in (
        Verdict.UNDECIDED,
        Verdict.FAILS,
    )
    assert found["tables: tokens a step"].verdict is Verdict.HOLDS


def test_turns_that_loop_count_for_nothing(tmp_path: Path) -> None:
    tree = figures("de")
    for row in tree["timed_rows"][::4]:
        row["loops"] = True
        row["arms"]["table-PF"]["seconds"] = 1e6
    found = of([tree], tmp_path)

    check = found["table-PF: tokens a second, times plain, T = 0"].checks["de"]
    assert check.verdict is Verdict.HOLDS
    assert check.estimate is not None
    assert check.estimate.num_blocks == NUM // 2


def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    found = of([figures("de", speeds={})], tmp_path)

    assert {each.verdict for each in found.values()} == {Verdict.NOT_MEASURED}
    assert best_arm(by_set(load(tmp_path))["translate_to_en"]) is None
    assert run(tmp_path, tmp_path / "page") == 0
    text = (tmp_path / "page/drafters.md").read_text()
    assert text.count("Not in these results") == 5
    with pytest.raises(SetupError, match=r"no figures\.json"):
        load(tmp_path / "page")
    write(tmp_path, "twice", figures("de"))
    with pytest.raises(SetupError, match="both of translate_to_en in de"):
        by_set(load(tmp_path))
    write(tmp_path, "bare", {})
    with pytest.raises(SetupError, match="is none of"):
        load(tmp_path)


def test_the_page_has_tables_bars_the_router_and_the_curve(tmp_path: Path) -> None:
    source = tmp_path / "found"
    for language in TRAINED:
        tree = figures(language)
        tree["timed_rows"][0]["loops"] = language == "de"
        write(source, f"eval-{language}", tree)
    write(source, "own", figures("de", speeds={}, asked="heldout"))
    learned = {str(10**n): 10**n for n in range(2, 7)}
    gains = {name: 1 + num**0.5 / 1e4 for name, num in learned.items()}
    for asked in ("de", "ja"):
        each = {f"table-{name}": 1.0 + (name == asked) for name in TRAINED}
        tree = figures(asked, {"none": 1.0, **each}, {}, learned_tokens=dict.fromkeys(each, 100))
        write(source, f"across-{asked}", tree)
    curve = figures("de", gains, {}, learned_tokens=learned)
    write(source, "curve", curve)
    check = {"name": "right_cut_kept", "value": 0.96, "bar": 0.9, "better": "higher"}
    check |= {"unit": "share", "verdict": "holds", "low": 0.94, "high": 0.98}
    router = {"name": "language", "checks": [check], "date": "2026-01-02", "machine": {"cpu": "x"}}
    (source / "language.json").write_text(json.dumps(router))

    for target in ("first", "again"):
        assert run(source, tmp_path / target) == 0
    text = (tmp_path / "first/drafters.md").read_text()

    assert "## translate_to_en" in text
    assert "## In-language questions and translations" in text
    assert "| tables: tokens a step | ≥ 1.6 in 5 of 5 | 5 | 0 | 0 | 0 | holds |" in text
    assert "| tables: tokens a step | ≥ 1.6 in 5 of 5 | 1 | 0 | 0 | 4 | not measured |" in text
    assert "| table-PF |" + 5 * " 2.00 ± 0.01 |" in text
    assert "| auto | 1.25 (1.25 to 1.25) |" in text
    assert "Turns with an answer that loops: de 1, fr 0, ja 0, ru 0, zh 0." in text
    assert "| right_cut_kept | 0.96 | 0.94 to 0.98 | ≥ 0.9 share | holds |" in text
    assert "Tables, de:" in text
    assert "| arm | de | ja |" in text
    assert "| table-ja | 1.00 ± 0.01 | 2.00 ± 0.01 |" in text
    assert text.count("points, asked") == 1
    assert "5 points, asked ≥ 4: holds." in text
    assert "1.6 is reached at" in text
    names = sorted(str(path.relative_to(tmp_path / "first")) for path in files(tmp_path / "first"))
    assert names == [
        *("data/drafters.json", "data/language.json", "drafters-de-table-tokens.svg"),
        "drafters.md",
    ]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
