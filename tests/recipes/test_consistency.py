"""The recipe from prompts to a merged model, on a tiny one that is first taught what to say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes import answering, collecting
from headstart.recipes.budget import Budget
from headstart.stages.errors import SetupError
from tests.recipes.tiny_runs import DECODING, LORA, NUM_PROMPTS, TRAINING, Step

pytestmark = [
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::accelerate", "ignore:::peft"),
    pytest.mark.usefixtures("one_thread"),
]


def test_losses_fall_and_tokens_a_step_rise(
    taught: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    run = tmp_path / "run"
    ours = {"epochs": 200, "learning_rate": 4e-3, "ar_weight": 1, "window": 3}
    note = step("train", model=taught, data=data, out=run, **ours, **TRAINING)
    figures = step(
        "evaluate",
        model=taught,
        tuned=run / "model",
        prompts=prompts,
        out=tmp_path / "figures",
        seen=True,
        **DECODING,
    )

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["consistency"] for line in lines if "consistency" in line]
    assert losses[-1] < 0.5 * losses[0]
    base, tuned = (figures[arm] for arm in ("base", "tuned"))
    assert tuned["not_looping"]["tokens_per_step"] > 1.15 * base["not_looping"]["tokens_per_step"]
    for part in (base["not_looping"], tuned["not_looping"]):
        assert 1 < part["tokens_per_step_unsaid"] <= part["tokens_per_step"]
    assert tuned["fast_forwarded"] > 1.5 * base["fast_forwarded"]
    assert base["answers_that_differ"] == tuned["answers_that_differ"] == 0
    assert note["samples"] == 200 * NUM_PROMPTS
    assert tuned["training"]["tokens"] == note["tokens"] > 200 * NUM_PROMPTS * 24
    kept = json.loads((tmp_path / "figures" / "figures.json").read_text())
    assert kept["arms"] == figures
    assert "/" not in json.dumps(kept["asked"])
    assert (run / "training.png").stat().st_size > 5000
    card = json.loads((data / "card.json").read_text())
    assert card["samples"] == NUM_PROMPTS
    assert card["blocks_that_end_elsewhere"] == 0


@pytest.mark.parametrize("method", ["jacobi-forcing", "cllm"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_killed_run_goes_on_to_the_same_result(
    taught: Path,
    data: Path,
    tmp_path: Path,
    step: Step,
    method: str,
    lora_rank: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from safetensors.torch import load_file

    how = TRAINING | {"method": method, "lora_rank": lora_rank, "epochs": 8, "log_steps": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    step("train", model=taught, data=data, out=whole, **how)

    def kill(self: Budget, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step == 3
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_step_end", kill)
        with pytest.raises(KeyboardInterrupt):
            step("train", model=taught, data=data, out=killed, **how)
    shutil.copytree(killed / "checkpoint-3", killed / "checkpoint-5")
    (killed / "checkpoint-5" / "trainer_state.json").unlink()  # it was being written
    step("train", model=taught, data=data, out=killed, **how)

    result = "adapter/adapter_model.safetensors" if lora_rank else "model/model.safetensors"
    one, other = (load_file(folder / result) for folder in (whole, killed))
    assert all((one[name] - other[name]).abs().max() < 1e-6 for name in one)
    losses = [
        [line["loss"] for line in map(json.loads, texts) if "loss" in line]
        for texts in ((each / "metrics.jsonl").read_text().splitlines() for each in (whole, killed))
    ]
    assert len(losses[0]) == 8
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # Once more, and nothing is done again.
    before = (killed / result).stat().st_mtime_ns
    step("train", model=taught, data=data, out=killed, **how)
    assert (killed / result).stat().st_mtime_ns == before


def weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(run / "adapter" / "adapter_model.safetensors"))


def distance(one: Path, other: Path) -> float:
    mine, theirs = weights(one), weights(other)
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def test_a_run_in_pieces_is_the_run_in_one(
    taught: Path, data: Path, tmp_path: Path, step: Step
) -> None:
    begun = {"model": taught, "data": data, "epochs": 4, **LORA}
    step("train", out=tmp_path / "whole", **begun)

    said = [step("train", out=tmp_path / "parts", piece_minutes=1e-9, **begun) for _ in range(4)]

    assert [each["steps"] for each in said] == [1, 2, 3, 4]
    assert [each.get("is_paused", False) for each in said] == [True, True, True, False]
    assert said[-1]["tokens"] == json.loads((tmp_path / "whole/result.json").read_bytes())["tokens"]
    assert distance(tmp_path / "whole", tmp_path / "parts") < 1e-6


def test_a_longer_run_and_a_shorter_one_share_their_beginning(
    taught: Path, data: Path, tmp_path: Path, step: Step
) -> None:
    begun = {"model": taught, "data": data, **LORA}
    short, long, grown, ended = (tmp_path / name for name in ("short", "long", "grown", "ended"))
    step("train", out=short, epochs=4, **begun)
    step("train", out=long, epochs=8, milestone=NUM_PROMPTS, **begun)

    # Made longer when it was over: it forgets that its learning rate had fallen.
    step("train", out=grown, epochs=4, **begun)
    note = step("train", out=grown, epochs=8, **begun)
    assert note["samples"] == 8 * NUM_PROMPTS
    assert distance(grown, long) < 1e-6
    # Brought to an end from its middle: what a short run would have been.
    kept = long / "kept" / str(2 * NUM_PROMPTS)
    note = step("train", out=ended, start=kept, **begun)
    assert note["samples"] == note["planned"] == 4 * NUM_PROMPTS
    assert distance(ended, short) < 1e-6
    with pytest.raises(SetupError, match="made with other learning_rate"):
        step("train", out=tmp_path / "other", start=kept, learning_rate=1, **begun)


def test_a_run_whose_data_has_changed_is_refused(
    taught: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    grown, out = tmp_path / "grown", tmp_path / "run"
    shutil.copytree(data, grown)
    begun = {"model": taught, "data": grown, **LORA}
    step("train", out=out, epochs=4, piece_minutes=1e-9, milestone=NUM_PROMPTS, **begun)
    lines = (grown / "samples.jsonl").read_text()
    more = json.loads(lines.splitlines()[0]) | {"id": NUM_PROMPTS}
    (grown / "samples.jsonl").write_text(lines + json.dumps(more) + "\n")

    with pytest.raises(SetupError, match=f"holds {NUM_PROMPTS + 1} samples and its card says"):
        step("train", out=out, epochs=4, **begun)
    card = json.loads((grown / "card.json").read_text()) | {"samples": NUM_PROMPTS + 1}
    (grown / "card.json").write_text(json.dumps(card))
    with pytest.raises(SetupError, match="begun with other num_samples, samples_sha256"):
        step("train", out=out, epochs=4, **begun)
    with pytest.raises(SetupError, match="made with other num_samples, samples_sha256"):
        step("train", out=tmp_path / "x", start=out / "kept" / str(NUM_PROMPTS), **begun)
    # The same samples elsewhere are the same.
    step("train", out=out, epochs=4, **(begun | {"data": data}))
    learned = {"model": taught, "method": "sft", "epochs": 2, "out": tmp_path / "sft", **LORA}
    step("train", data=prompts, piece_minutes=1e-9, **learned)
    other = tmp_path / "other.jsonl"
    other.write_text(prompts.read_text().replace('"A"', '"Z"'))
    with pytest.raises(SetupError, match="begun with other samples_sha256"):
        step("train", data=other, **learned)


def test_a_killed_collection_goes_on_to_the_same_samples(
    taught: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    out = tmp_path / "data"
    shutil.copytree(data, out)
    (out / "card.json").unlink()
    for name, kept in (("answers.jsonl", 7), ("samples.jsonl", 3)):
        lines = (out / name).read_bytes().splitlines(keepends=True)
        (out / name).write_bytes(b"".join(lines[:kept]) + lines[kept][:20])  # killed while writing

    step("collect", model=taught, prompts=prompts, out=out, **DECODING)

    for name in ("answers.jsonl", "samples.jsonl"):
        one, other = (
            sorted(
                (folder / name).read_text().splitlines(), key=lambda line: json.loads(line)["id"]
            )
            for folder in (data, out)
        )
        assert one == other
    assert (out / "card.json").read_text() == (data / "card.json").read_text()


def test_which_answers_are_kept_is_decided_anew(
    taught: Path,
    data: Path,
    prompts: Path,
    tmp_path: Path,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [json.loads(line) | {"answer": "7"} for line in prompts.read_text().splitlines()]
    numbered = tmp_path / "numbered.jsonl"
    numbered.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "data"
    asked = {"model": taught, "prompts": numbered, "out": out, **DECODING}
    learned = {"model": taught, "data": out, "epochs": 1, **TRAINING}
    with pytest.raises(SetupError, match="no answer is fit"):
        step("collect", min_tokens=63, **asked)
    monkeypatch.setattr(answering, "_answered", None)  # from here on nothing is answered again

    whole = step("collect", **asked)
    samples = sorted((out / "samples.jsonl").read_text().splitlines())
    assert samples == sorted((data / "samples.jsonl").read_text().splitlines())
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "is_right", lambda _metric, prompt, _text: prompt.id % 3 == 0)
        card = step("collect", metric="gsm8k", **asked)
        assert card["samples"] == NUM_PROMPTS // 3
        assert card["left_out"]["wrong"] == NUM_PROMPTS * 2 // 3
        assert card["metric"] == "gsm8k"
        assert step("train", out=tmp_path / "few", **learned)["samples"] == NUM_PROMPTS // 3
        # What refuses all leaves samples and card as they are.
        with pytest.raises(SetupError, match="no answer is fit"):
            step("collect", min_tokens=63, **asked)
        assert json.loads((out / "card.json").read_text()) == card

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "traced", None)  # as if killed before the first of them
        with pytest.raises(TypeError):
            step("collect", **asked)
    with pytest.raises(SetupError, match=r"no card\.json"):
        step("train", out=tmp_path / "killed", **learned)
    assert step("collect", **asked) == whole
    assert sorted((out / "samples.jsonl").read_text().splitlines()) == samples


def test_a_dry_run_says_what_all_would_take(
    taught: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    out = tmp_path / "out"
    said = step("collect", model=taught, prompts=prompts, out=out, dry_run=True, **DECODING)
    assert said["prompts"] == NUM_PROMPTS
    said = step("train", model=taught, data=data, out=out, dry_run=True, max_minutes=1, **TRAINING)
    assert said["samples_in_time"] == said["samples"] == NUM_PROMPTS
    assert said["seconds_a_step"] > 0
    assert not out.exists() or not any(out.iterdir())


def test_a_run_ends_in_time(taught: Path, data: Path, tmp_path: Path, step: Step) -> None:
    note = step(
        "train", model=taught, data=data, out=tmp_path, epochs=1e6, max_minutes=0.02, **TRAINING
    )

    assert 1 < note["elapsed_s"] < 20
    assert 0 < note["samples"] < note["planned"] == 1e6 * NUM_PROMPTS
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in lines if "learning_rate" in line][-1]["learning_rate"] < 1e-4


def test_what_is_not_fit_is_refused_before_it_costs_anything(
    taught: Path, tiny_model: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    def refused(match: str, name: str, /, **options: Any) -> None:
        with pytest.raises(SetupError, match=match):
            step(name, **options)

    asked = {"prompts": prompts, "out": tmp_path / "new", **DECODING}
    trained = {"data": data, "out": tmp_path / "run", **TRAINING}
    (tmp_path / "empty.txt").write_text("\n\n")
    refused(
        "no prompt there", "collect", model=taught, **(asked | {"prompts": tmp_path / "empty.txt"})
    )
    (tmp_path / "odd.jsonl").write_text('{"query": 1}\n')
    refused(
        "odd.jsonl:1 is no prompt",
        "collect",
        model=taught,
        **(asked | {"prompts": tmp_path / "odd.jsonl"}),
    )
    refused("no answer is fit", "collect", model=taught, **(asked | {"min_tokens": 63}))
    refused(
        "begun with other block_tokens",
        "collect",
        model=taught,
        **(asked | {"out": data, "block_tokens": 4}),
    )
    refused("another model's answers", "train", model=tiny_model, **trained)
    refused("no card.json", "train", model=taught, **(trained | {"data": tmp_path}))
    refused("has no result", "export", run=tmp_path, out=tmp_path / "x", name="x")
    refused("There is no model", "train", model="no-such-model", **trained)

    other = tmp_path / "other-template"
    shutil.copytree(taught, other)
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    refused("another tokenizer or chat template", "train", model=other, **trained)
    (other / "chat_template.jinja").unlink()
    refused("no chat template", "collect", model=other, **(asked | {"out": tmp_path / "y"}))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run(
    taught: Path, data: Path, tmp_path: Path, step: Step
) -> None:
    from safetensors.torch import load_file, save_file

    from headstart.recipes.models import fingerprint

    broken = tmp_path / "broken"
    shutil.copytree(taught, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    card = json.loads((data / "card.json").read_text()) | {"weights": fingerprint(broken)}
    bad = tmp_path / "data"
    shutil.copytree(data, bad)
    (bad / "card.json").write_text(json.dumps(card))

    with pytest.raises(SetupError, match="loss is nan"):
        step("train", model=broken, data=bad, out=tmp_path / "run", **TRAINING)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_full_disk_keeps_the_last_whole_checkpoint(
    taught: Path, data: Path, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    from headstart.recipes.consistency_training import PackTrainer

    monkeypatch.setattr(PackTrainer, "_save_checkpoint", fail)
    with pytest.raises(SetupError, match="is full: free space"):
        step("train", model=taught, data=data, out=tmp_path, save_minutes=0, **TRAINING)
