"""The parts of the decode benchmark over engines whose answers and times are known."""

import json
import signal
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from headstart.benchmarks import decode_exact, decode_speed, plumbing_scores
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.decode_engines import (
    MODEL_DRAFTS,
    disturbed,
    model_drafts,
    our_engines,
    plain_engines,
)
from headstart.benchmarks.decode_exact import ENGINES, MODES, batches
from headstart.benchmarks.decode_plan import FULL, QUICK, Block, Group, asked_by, blocks
from headstart.benchmarks.decode_plumbing import Prober, replayed
from headstart.benchmarks.decode_rig import DecodeRig
from headstart.benchmarks.decode_setup import Setup, make_tables, run_parts
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.plumbing_scores import CROWDS, REPLAYED
from headstart.benchmarks.report import Part
from headstart.cluster import launch_adapter, model_source
from headstart.cluster.engine_child import Done, Wanted
from headstart.cluster.prepared_model import prepared
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import NgramTable
from headstart.stages.speculation_counts import SpeculationCounts
from tests.benchmarks.decode_doubles import FakeRig, setup_in

MISSING = {"suffix": "not here", "draft": "none yet", "random": "not tried"}


def group_of(num: int) -> Group:
    texts = [f"question {number}" for number in range(num)]
    return Group("gsm8k", False, texts, [[number] for number in range(num)])


def test_no_prompt_is_in_two_blocks() -> None:
    found = blocks(group_of(232), FULL)

    assert Counter(block.size for block in found) == dict.fromkeys(FULL.blocks, 8)
    texts = [text for block in found for text in block.texts]
    assert len(texts) == len(set(texts)) == 232
    assert len({block.key for block in found}) == len(found)


def test_too_few_prompts_make_fewer_blocks() -> None:
    found = blocks(group_of(50), FULL)

    assert Counter(block.size for block in found) == {1: 6, 4: 3, 8: 2, 16: 1}
    assert all(len(block.texts) == len(block.known) == block.size for block in found)


def test_lanes_turn_and_leave_out_what_is_missing() -> None:
    first, second = (block for block in blocks(group_of(232), FULL)[:8] if block.size == 1)
    names = [lane.name for lane in asked_by(first, MISSING)]

    assert names == ["plain", "vllm ngram", "copy", "auto", "off", "table", "jacobi"]
    copied = asked_by(Block("edit", 4, 0, False), MISSING)
    assert [lane.name for lane in copied][:3] == ["plain", "vllm ngram", "vllm long ngram"]
    assert [lane.name for lane in asked_by(second, MISSING)] == names[::-1]
    assert "vllm suffix" in [lane.name for lane in asked_by(first, {})]


def test_prompts_are_told_apart_by_whether_their_answers_loop(tmp_path: Path) -> None:
    setup, rig = setup_in(tmp_path), FakeRig(loops="self", missing=MISSING)
    plain, looping = decode_speed.grouped(rig, setup, "edit")

    assert plain.texts
    assert not [text for text in plain.texts if "self" in text]
    assert all("self" in text for text in looping.texts)
    assert {len(answer) for answer in plain.answers} == {setup.plan.answer_tokens}
    again = FakeRig()
    assert decode_speed.grouped(again, setup, "edit") == [plain, looping]
    assert not again.asked


def test_a_block_is_measured_once_and_kept(tmp_path: Path) -> None:
    plan = replace(QUICK, blocks={1: 1, 4: 1})
    setup, rig = setup_in(tmp_path, plan), FakeRig(missing=MISSING)
    block = blocks(group_of(30), plan)[1]
    found = decode_speed.measured(rig, setup, block)

    ours = {"copy", "auto", "auto by batch", "table"}
    assert set(found.lanes) == {"plain", "vllm ngram", *ours}
    assert found.lanes["auto"].num_tokens == 4 * QUICK.answer_tokens
    kept = replace(setup, checkpoint=Checkpoint(tmp_path / "checkpoint", {"run": 1}))
    again = FakeRig(missing=MISSING)
    assert decode_speed.measured(again, kept, block) == found
    assert not again.asked


def test_every_mode_is_compared_at_every_number_at_once() -> None:
    texts = [(f"question {number}", "en") for number in range(500)]
    found = list(batches(texts, FULL))

    ours = [batch for batch in found if batch.engine in ENGINES]
    assert [text for batch in ours for text in batch.texts] == texts
    asked = [
        (text, mode)
        for batch in ours
        for modes in batch.rounds
        for text, mode in zip(batch.texts, modes, strict=True)
    ]
    assert Counter(asked) == dict.fromkeys(product(texts, map(str, MODES)), 1)
    assert {batch.engine for batch in ours} == set(ENGINES)
    assert {batch.at_once for batch in ours} == set(FULL.exact)
    # Side by side there are different ones.
    assert all(len(set(modes)) == len(MODES) for batch in ours for modes in batch.rounds)
    drafted = found[len(ours) :]
    assert {batch.at_once for batch in drafted} == set(FULL.exact_model)
    assert all(set(modes) == {"model"} for batch in drafted for modes in batch.rounds)
    assert [batch.number for batch in found] == list(range(len(found)))


@pytest.mark.parametrize(
    ("wrong", "gap", "same", "ties"),
    [("\0", 1.0, 24, 0), ("Compare", 1e-4, 24, 1), ("Compare", 0.5, 24, 0)],
)
def test_answers_that_part_are_found(
    tmp_path: Path, wrong: str, gap: float, same: int, ties: int
) -> None:
    setup = setup_in(tmp_path, replace(QUICK, exact_model={}))
    rig = FakeRig(wrong=wrong, gap=gap)
    own = f"{wrong} this".replace("\0", "See")
    texts = [(own, "en"), *((f"question {number}", "en") for number in range(same - 1))]
    found = [decode_exact.compared(rig, setup, batch) for batch in batches(texts, setup.plan)]

    every = [one for each in found for one in each.compared]
    assert len(every) == same
    assert sum(one.is_tie for one in every) == ties
    assert sum(not one.is_same for one in every) == (wrong != "\0")
    checks = {check.bar.name: check for check in decode_exact.checks(found, is_quick=True)}
    is_wrong = wrong != "\0" and not ties
    fails = checks["answers_that_differ_without_a_tie"].verdict is Verdict.FAILS
    assert fails is is_wrong
    assert checks["preemptions_while_compared"].verdict is Verdict.HOLDS
    again = FakeRig()
    kept = [decode_exact.compared(again, setup, batch) for batch in batches(texts, setup.plan)]
    assert kept == found
    assert not again.asked


def test_a_model_drafts_for_some_of_them_too(tmp_path: Path) -> None:
    setup, rig = setup_in(tmp_path), FakeRig()
    texts = [(f"question {number}", "en") for number in range(24)]
    found = [decode_exact.compared(rig, setup, batch) for batch in batches(texts, setup.plan)]

    every = [one for each in found for one in each.compared if one.engine == MODEL_DRAFTS]
    assert len(every) == sum(QUICK.exact_model.values())
    assert all(one.is_same and one.mode == "model" for one in every)
    assert MODEL_DRAFTS in rig.asked


def test_pool_in_which_a_model_drafts_is_a_real_one(tiny_model: Path, tmp_path: Path) -> None:
    """Of the drafter's weights some are others, and it fits its model."""
    engine = model_drafts(
        ModelSettings(name="tiny", source=str(tiny_model)), disturbed(tiny_model, tmp_path / "own")
    )
    pool, _ = prepared(engine.model, tmp_path)

    assert pool.drafter is not None
    argv = launch_adapter.engine_argv(pool, str(tiny_model))
    assert f"--worker-cls={launch_adapter.DRAFT_MODEL_WORKER}" in argv
    own, right = (
        (folder / "model.safetensors").read_bytes() for folder in (tmp_path / "own", tiny_model)
    )
    assert own != right


@pytest.mark.parametrize(
    ("waste", "company_s", "names"),
    [
        (1.0, 0.0, set()),
        (1.8, 0.0, {f"replay_{right}_right_of_possible" for right in REPLAYED}),
        (
            1.0,
            0.002,
            {
                *(f"proposers_and_capture_of_a_step_x{size}" for size in CROWDS),
                *(f"auto_of_off_nothing_accepted_x{size}" for size in CROWDS),
            },
        ),
    ],
)
def test_plumbing_is_measured_as_it_is(
    tmp_path: Path, waste: float, company_s: float, names: set[str]
) -> None:
    rig = FakeRig(waste=waste, company_s=company_s)
    prober = Prober(rig, QUICK, tmp_path / "answers")
    texts = [f"question {number}" for number in range(max(CROWDS))]
    found = [prober.round(texts, is_reversed=bool(number % 2)) for number in range(8)]

    assert found[0].steps_s["9"] == pytest.approx(0.028)
    assert found[0].crowds["16"].accepted == 0
    checks = plumbing_scores.checks(found, is_quick=False)
    assert {check.bar.name for check in checks if check.verdict is not Verdict.HOLDS} == names


@pytest.mark.parametrize(("right", "drafting", "plain"), [(2, 11, 6), (4, 7, 4), (8, 4, 3)])
def test_steps_that_drafted_too_little_are_a_loss_and_those_without_room_are_not(
    right: int, drafting: int, plain: int
) -> None:
    """An answer of 40 tokens, steps of 20 ms and of 30 where eight tokens are drafted."""
    alone = Done([[1]], [[5] * 40], [0.5], [0.5 + 39 * 0.02], None)

    def run(steps: int, decode_s: float) -> Done:
        counts = SpeculationCounts(mixed_steps=1, verify_steps=steps)
        return Done([[1]], [[5] * 40], [0.5], [0.5 + decode_s], counts)

    all_of_them = run(drafting + plain, drafting * 0.03 + plain * 0.02)
    found = replayed(right, alone, [all_of_them])
    missed = replayed(
        right, alone, [run(drafting + plain + 1, drafting * 0.03 + plain * 0.02 + 0.02)]
    )

    assert found.per_step == right + 1
    assert found.over_plain == pytest.approx((right + 1) / 1.5)
    assert missed.per_step < right + 1
    assert missed.over_plain < 0.95 * found.over_plain


def test_tables_are_made_of_the_models_own_answers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 300}')
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    setup, rig = setup_in(tmp_path), FakeRig()
    tables = make_tables(rig, setup, tmp_path)

    assert set(tables) == {"en", "de"}
    for language, path in tables.items():
        table = NgramTable.decode(path.read_bytes())
        assert (table.language, table.vocabulary) == (language, 300)
        assert table.tokenizer == tokenizer_hash(tmp_path)
    again = FakeRig()
    make_tables(again, setup, tmp_path)
    assert not again.asked


def test_engines_differ_by_what_drafts_alone() -> None:
    model = ModelSettings(name="tiny", source="nowhere", engine_args={"enforce_eager": True})
    engines = plain_engines(model, {"draft": {"method": "draft_model"}}) | our_engines(model, {})

    for name, engine in engines.items():
        arguments = dict(engine.model.engine_args)
        arguments.pop("speculative_config", None)
        assert engine.model.dtype == ("float32" if name.startswith("exact") else model.dtype)
        if not name.startswith("exact"):
            assert arguments == model.engine_args
        wanted = Wanted(engine.model.model_dump_json(), "nowhere", engine.drafter)
        assert ModelSettings.model_validate_json(wanted.model).model_dump_json() == wanted.model


def test_an_engine_that_does_not_start_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise SetupError("draft ended:\nsome trace\nno such method")

    monkeypatch.setattr(DecodeRig, "_start", fails)
    model = ModelSettings(name="tiny", source="nowhere")
    engines = plain_engines(model, {"draft": {}})
    with DecodeRig(tmp_path, tmp_path, engines, {"suffix": "not here"}) as rig:
        rig.ready(["suffix", "draft"])

        assert rig.missing == {"suffix": "not here", "draft": "no such method"}
        with pytest.raises(SetupError, match="no such method"):
            rig.ask("plain", [], 1)
        assert not rig.arms


def test_a_part_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(model_source, "resolve", lambda *_: tmp_path)
    settings = Settings(models=(ModelSettings(name="tiny", source="nowhere"),))
    options = BenchOptions(tmp_path / "out.json", is_quick=True)
    kept = tmp_path / "out.checkpoint.jsonl"

    def killed(setup: Setup) -> Part:
        setup.checkpoint.put("first", 7)
        raise KeyboardInterrupt

    def whole(setup: Setup) -> Part:
        return Part({"first": setup.checkpoint.get("first", int)}, [], [])

    with pytest.raises(KeyboardInterrupt):
        run_parts("decode-speed", settings, options, [killed])
    assert kept.exists()
    assert run_parts("decode-speed", settings, options, [whole, whole]) == 0
    assert not kept.exists()
    config = json.loads(options.json_path.read_text())["config"]
    assert (config["first"], config["num_resumed"]) == (7, 1)
