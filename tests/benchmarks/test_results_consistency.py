"""The page of consistency training says what the evaluations say, and where bars are missed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from headstart.benchmarks.consistency_runs import fitted, load, main_runs
from headstart.benchmarks.results_consistency import run
from headstart.stages.errors import SetupError

PLAIN = {"method": "jacobi-forcing", "lora_rank": 8, "learning_rate": 2e-4, "copies": 2}
ASKED = {
    "prompts": "gsm8k_test.jsonl",
    "metric": "gsm8k",
    "block_tokens": "16",
    "engine": "auto",
    "dtype": "bfloat16",
}


def figures(gain: float, right: float, **more: Any) -> dict[str, Any]:
    return {
        "not_looping": {
            "answers": 90,
            "tokens_per_step": gain,
            "tokens_per_step_95": [gain - 0.05, gain + 0.05],
            "of_what_steps_give": 0.95,
            "of_what_steps_give_95": [0.92, 0.98],
            "step_cost": 1.25,
            "tokens_per_s_plain": 30.0,
            "tokens_per_s_jacobi": 22.8 * gain,
            "speedup": 0.76 * gain,
        },
        "answers": 100,
        "right": right,
        "perplexity_on_base": 1.2,
        "fast_forwarded": 1.5,
        "machine": "2 cores of a processor",
        "date": "2026-01-02 03:04",
        "fingerprint": f"weights of {gain:.4f}",
    } | more


def trained(tokens: int, gain: float, before: int = 0, **options: Any) -> dict[str, Any]:
    training = {
        "samples": tokens // 500,
        "tokens": tokens,
        "tokens_before": before,
        "minutes": 7.5,
        "machine": "a GPU",
        "options": PLAIN | options,
    }
    return figures(gain, 0.6, training=training, right_alone=2, wrong_alone=2)


def write(
    folder: Path, name: str, metric: str = "gsm8k", **arms: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    asked = ASKED | {"prompts": f"{metric}_test.jsonl", "metric": metric}
    (folder / name).mkdir(parents=True)
    (folder / name / "figures.json").write_text(json.dumps({"asked": asked, "arms": arms}))
    return arms


def on_a_line(tokens: int) -> float:
    return 1.0 + 0.2 * math.log10(tokens / 1e5)


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """Five budgets on a line of 0.2 a decade, an ablation between two of them, another domain."""
    folder = tmp_path / "found"
    base = figures(1.05, 0.5)
    sizes = [
        {
            "batch": size,
            "answers": 16,
            "tokens_per_step": 1.4,
            "tokens_per_s_plain": 30.0,
            "tokens_per_s_jacobi": 30.0 * speedup,
            "speedup": speedup,
        }
        for size, speedup in ((1, 1.25), (16, 1.0))
    ]
    for tokens in (100_000, 200_000, 400_000, 800_000):
        write(folder, f"at-{tokens}", base=base, tuned=trained(tokens, on_a_line(tokens)))
    last = trained(1_600_000, on_a_line(1_600_000)) | {"by_batch": sizes}
    cllm = trained(400_000, 1.1, method="cllm")
    write(folder, "at-1600000", base=base, tuned=last, rival=cllm)
    write(folder, "sql", "sql", base=figures(1.1, 0.7), tuned=trained(10, 3.0))
    return folder


def page(found: Path, target: Path) -> str:
    assert run(found, target) == 0
    return (target / "consistency.md").read_text()


def part(text: str, title: str) -> str:
    return text.partition(title)[2].partition("\n#")[0]


def test_the_curve_says_what_the_next_decade_buys_and_where_the_bar_is(
    found: Path, tmp_path: Path
) -> None:
    text = page(found, tmp_path / "page")

    assert "bring 0.20 ± 0.00 tokens a step more" in text
    assert "1.44 at 16,000,000 tokens" in text
    bars = part(text, "## gsm8k_test, gsm8k")
    assert (
        "| tokens a step | 1.24 | ≥ 1.8 | **fails** | the curve reaches it at 1e+09 tokens; "
        "95 %: 1.19 to 1.29, 90 answers |" in bars
    )
    assert "| points of the curve | 5 | ≥ 5 | holds |" in bars
    assert "| tokens a second, of what steps give | 0.95 | ≥ 0.9 | holds |" in bars
    assert "| 400,000 | 800 | 1.12 |" in part(text, "### Gain over training tokens")


def test_each_arm_says_what_weights_it_is(tmp_path: Path) -> None:
    taught = trained(143_896, 1.2, method="sft", model="builtin:small")
    tuned = trained(431_126, 2.5, method="jacobi-forcing")
    tuned["training"]["begun_from"] = taught["training"] | {"begun_from": None}
    tuned["weights"] = "small with adapter fast"
    rival = figures(1.1, 0.5)
    write(tmp_path / "found", "one", "sql", base=taught, tuned=tuned, rival=rival)

    lines = page(tmp_path / "found", tmp_path / "page").splitlines()

    assert (
        "- **base**: builtin:small with an adapter; 143,896 tokens of sft (287 samples, 7.5 min); "
        "of earlier training these results do not tell" in lines
    )
    assert (
        "- **tuned**: small with adapter fast; 143,896 tokens of sft (287 samples, 7.5 min), then "
        "431,126 tokens of jacobi-forcing (862 samples, 7.5 min)" in lines
    )
    assert "- **rival**: these results do not say which" in lines
    assert any(line.startswith("| base | - | 1.2 |") for line in lines)


@pytest.mark.parametrize(
    "tree",
    [
        {"asked": {}, "arms": {"base": {}}},
        {"asked": {"metric": "sql"}, "arms": {"base": {}}},
        {"asked": ASKED, "arms": {}},
        {"asked": ASKED, "arms": []},
    ],
)
def test_figures_that_lack_what_a_page_is_made_of_are_named(
    tmp_path: Path, tree: dict[str, Any]
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "figures.json").write_text(json.dumps(tree))

    with pytest.raises(SetupError, match=r"bare/figures\.json is none of"):
        run(tmp_path, tmp_path / "page")


def test_what_was_trained_otherwise_stands_beside_the_curve_at_its_budget(
    found: Path, tmp_path: Path
) -> None:
    text = part(page(found, tmp_path / "page"), "### Ablation")

    assert "| method cllm | 400,000 | 1.1 | 1.12 |" in text
    assert text.count("| 400,000 |") == 1


def test_accuracy_within_the_bar_is_undecided_of_few_answers(found: Path, tmp_path: Path) -> None:
    text = part(page(found, tmp_path / "page"), "## sql_test, sql")

    assert "| tokens a step | 3 | ≥ 2.4 | holds |" in text
    assert "| right, against the base | 0.00 % | ≥ -1.50 % | undecided |" in text
    assert "| the base's right | 70.00 % | ≥ 50.00 % | holds |" in text
    assert "| points of the curve | 1 | ≥ 5 | **fails** |" in text


def test_the_curve_has_one_lot_of_prompts_and_the_bars_have_most(
    found: Path, tmp_path: Path
) -> None:
    more = figures(1.05, 0.5, answers=300)
    tuned = trained(1_600_000, 1.5) | {"answers": 300}
    write(found, "a-longer-look", base=more, tuned=tuned)
    path = found / "a-longer-look" / "figures.json"
    tree = json.loads(path.read_text())
    tree["asked"]["num"] = "300"
    path.write_text(json.dumps(tree))

    text = page(found, tmp_path / "page")

    assert "| tokens a step | 1.5 |" in text
    assert "bring 0.20 ± 0.00 tokens a step more" in text


def test_accuracy_is_that_of_the_evaluation_with_most_answers(found: Path, tmp_path: Path) -> None:
    known = {"answers": 4000, "right": 0.7, "right_alone": 20, "wrong_alone": 20}
    base = {"fingerprint": figures(1.1, 0.7)["fingerprint"]} | known
    tuned = {"fingerprint": figures(3.0, 0.6)["fingerprint"]} | known
    write(found, "sql-right", "sql", base=base, tuned=tuned)
    other = tuned | {"fingerprint": "others", "answers": 5000, "wrong_alone": 900}
    write(found, "sql-other", "sql", base=base | {"answers": 5000}, tuned=other)
    unknown = other | {"fingerprint": None, "answers": 6000}
    write(found, "sql-unknown", "sql", base=base | {"answers": 6000}, tuned=unknown)

    text = part(page(found, tmp_path / "page"), "## sql_test, sql")

    assert "| right, against the base | 0.00 % | ≥ -1.50 % | holds |" in text
    assert "4000 answers" in text


def test_files_of_one_name_are_domains_of_their_own(found: Path, tmp_path: Path) -> None:
    for name, digest in (("one", "a" * 64), ("other", "b" * 64)):
        write(found, name, "sql", base=figures(1.1, 0.7), tuned=trained(10, 2.0))
        path = found / name / "figures.json"
        tree = json.loads(path.read_text())
        tree["asked"] |= {"prompts": "same.jsonl", "prompts_sha256": digest}
        path.write_text(json.dumps(tree))

    text = page(found, tmp_path / "page")

    for digest in ("a" * 8, "b" * 8):
        alone = part(text, f"## same, sql, file {digest}")
        assert "| points of the curve | 1 | ≥ 5 | **fails** |" in alone


def test_the_curve_and_the_bars_are_of_what_is_judged_and_no_rival(tmp_path: Path) -> None:
    rival = trained(110_000, 1.2, method="cllm")
    write(tmp_path, "one", base=figures(1.05, 0.5), tuned=trained(107_000, 2.0), rival=rival)

    text = page(tmp_path, tmp_path / "page")

    assert "| tokens a step | 2 | ≥ 1.8 |" in text
    assert "| 107,000 | 214 | 2 |" in text
    assert "| method cllm | 110,000 | 1.2 |" in text


def test_accuracy_alone_is_shown_of_every_evaluation_and_judged_of_the_most_trained(
    tmp_path: Path,
) -> None:
    for name, tokens, lost in (("a", 1_000, 9), ("b", 9_000, 5)):
        tuned = trained(tokens, 2.0) | {"right": 0.8, "right_alone": 0, "wrong_alone": lost}
        base = figures(1.1, 0.8)
        for each in (base, tuned):
            del each["not_looping"]
        write(tmp_path, name, "sql", base=base, tuned=tuned | {"fingerprint": name})

    text = page(tmp_path, tmp_path / "page")

    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith(("| a,", "| b,"))]
    assert rows == ["| a, base", "| a, tuned", "| b, tuned"]
    assert "| right, against the base | -5.00 % |" in text


@pytest.mark.parametrize(("num", "verdict"), [(100, "undecided"), (400, "holds")])
def test_few_answers_that_all_agree_decide_nothing(tmp_path: Path, num: int, verdict: str) -> None:
    pairs = {"answers": num, "right": 1.0, "right_alone": 0, "wrong_alone": 0}
    write(
        tmp_path / "found",
        "sql",
        "sql",
        base={"answers": num, "right": 1.0},
        tuned=trained(100, 1.9) | pairs,
    )

    text = page(tmp_path / "found", tmp_path / "page")

    assert f"| right, against the base | 0.00 % | ≥ -1.50 % | {verdict} |" in text


@pytest.mark.parametrize(
    ("name", "value", "ends", "verdict"),
    [
        ("loss_change", 0.015, [0.008, 0.019], "holds"),
        ("loss_change", -0.3, [-0.5, -0.1], "holds"),
        ("loss_change", 0.015, [-0.01, 0.04], "undecided"),
        ("loss_change", 0.04, [0.03, 0.05], "**fails**"),
        ("of_what_steps_give", 0.95, [0.80, 1.1], "undecided"),
        ("of_what_steps_give", 0.85, [0.82, 0.88], "**fails**"),
        ("tokens_per_step", 2.2, [1.9, 2.5], "holds"),
        ("tokens_per_step", 2.0, [1.7, 2.3], "undecided"),
        ("tokens_per_step", 2.0, None, "undecided"),
    ],
)
def test_a_wide_interval_decides_nothing(
    tmp_path: Path, name: str, value: float, ends: list[float] | None, verdict: str
) -> None:
    tuned = trained(100, 1.9)
    place = tuned if name == "loss_change" else tuned["not_looping"]
    place |= {name: value, f"{name}_95": ends}
    write(tmp_path, "one", base=figures(1, 0.5), tuned=tuned)

    text = page(tmp_path, tmp_path / "page")

    shown = {"loss_change": "loss on the", "of_what_steps_give": "tokens a second, of"}
    bar = f"| {shown.get(name, 'tokens a step')}"
    line = next(each for each in text.splitlines() if each.startswith(bar))
    assert line.split(" | ")[3] == verdict


def test_a_later_round_is_not_on_the_curve_of_the_first(tmp_path: Path) -> None:
    for tokens in (100, 200, 300):
        write(tmp_path, f"{tokens}", base=figures(1, 0.5), tuned=trained(tokens, 1.1))
    write(tmp_path, "second", base=figures(1, 0.5), tuned=trained(100, 1.5, before=300))

    curve, others = main_runs(load(tmp_path))

    assert [each.tokens for each in curve] == [100, 200, 300]
    assert [each.tokens for each in others] == [400]
    assert fitted(curve[:2]) is None


def test_the_page_is_the_same_for_the_same_files(found: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    page(found, first)
    page(found, again)

    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == [
        "consistency-1-batches.svg",
        "consistency-1-tokens.svg",
        "consistency-2-tokens.svg",
        "consistency.md",
        "data/consistency.json",
    ]
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_what_is_missing_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no figures\.json"):
        load(tmp_path)
    write(tmp_path, "bare", base={"answers": 3, "perplexity_on_base": 1.2})
    text = page(tmp_path, tmp_path / "page")
    assert text.count("Not in these results") == 3
    (tmp_path / "bare" / "figures.json").write_text("{}")
    with pytest.raises(SetupError, match="is none of"):
        load(tmp_path)
