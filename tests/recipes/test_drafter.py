"""The drafter's recipe from text to an export, for a tiny target that is taught what to say."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headstart.recipes import answering, consistency, drafter
from headstart.recipes.budget import Budget
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import NgramTable
from tests.recipes.tiny_runs import argv_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::accelerate", "ignore:::peft"),
    pytest.mark.usefixtures("one_thread"),
]

NUM_PROMPTS = 10
ANSWERING = {"engine": "transformers", "device": "cpu", "dtype": "float32", "max_tokens": 40}
TRAINING = {"device": "cpu", "dtype": "float32", "hidden_size": 32, "heads": 2, "layers": 1}
Step = Callable[..., dict[str, Any]]


@pytest.fixture
def step(capsys: pytest.CaptureFixture[str]) -> Step:
    """Run a step as the command line does, and return what it prints."""

    def run(name: str, /, **options: Any) -> dict[str, Any]:
        capsys.readouterr()
        assert drafter.main(argv(name, **options)) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def argv(name: str, /, **options: Any) -> list[str]:
    """Flags that take several values are given as tuples."""
    found = argv_of(name, **{k: v for k, v in options.items() if not isinstance(v, tuple)})
    for key, values in options.items():
        if isinstance(values, tuple):
            found += [f"--{key.replace('_', '-')}", *map(str, values)]
    return found


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chooser = random.Random(0)
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {
            "prompt": chr(ord("A") + number),
            "answer": "".join(chooser.choice("abcdefgh") for _ in range(24)),
            "lang": "de",
        }
        for number in range(NUM_PROMPTS)
    ]
    rows.append({"prompt": "z", "answer": "zz", "lang": "fr"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def target(tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its answers by heart."""
    out = tmp_path_factory.mktemp("target")
    how = {"method": "sft", "batch": 11, "accumulate": 1, "epochs": 300, "learning_rate": 3e-3}
    how |= {"device": "cpu", "dtype": "float32"}
    assert consistency.main(argv_of("train", model=tiny_model, data=prompts, out=out, **how)) == 0
    return out / "model"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """German that nobody else has written."""
    folder = tmp_path_factory.mktemp("corpus")
    subjects = ("Der alte Gärtner", "Eine junge Ärztin", "Mein Nachbar", "Die kleine Katze")
    verbs = ("erzählt gern von", "wartet schon lange auf", "spricht jeden Abend über")
    objects = ("den Blumen im Garten", "die Reise nach Hamburg", "das Wetter am Wochenende")
    lines = [f"{s} {v} {o}, und alle hören zu." for s in subjects for v in verbs for o in objects]
    text = folder / "text"
    text.mkdir()
    for number, line in enumerate(lines):
        (text / f"{number}.txt").write_text(line, encoding="utf-8")
    out = folder / "out"
    how = {"language": "de", "license": "CC0-1.0", "heldout": 0.2, "out": out}
    assert drafter.main(argv("corpus", sources=(text,), **how)) == 0
    return out


@pytest.fixture(scope="module")
def distilled(target: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distilled") / "de"
    how = {"language": "de", "prompts": prompts, "temperatures": (0.0, 0.5), **ANSWERING}
    assert drafter.main(argv("distil", model=target, out=out, **how)) == 0
    return out


def test_from_text_to_an_export(
    target: Path, prompts: Path, corpus: Path, distilled: Path, tmp_path: Path, step: Step
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from headstart.cluster.parallel_drafter import plan_of
    from headstart.configs.speculation import SpeculationSettings
    from headstart.recipes.drafter_model import Drafter
    from headstart.recipes.models import Chat

    step(
        "pretrain",
        model=target,
        corpora=(corpus,),
        out=tmp_path / "p",
        max_length=32,
        epochs=2,
        **TRAINING,
    )
    tuned = step(
        "finetune",
        model=target,
        answers=(distilled,),
        drafter=tmp_path / "p/model",
        out=tmp_path / "pf",
        epochs=200,
        learning_rate=5e-3,
        **TRAINING,
    )
    answer_tokens = json.loads((distilled / "card.json").read_text())["answer_tokens"]
    assert tuned["learned_tokens"] == 200 * answer_tokens
    assert (tmp_path / "pf/training.png").stat().st_size > 3000
    trimmed = step(
        "trim",
        model=target,
        drafter=tmp_path / "pf/model",
        answers=(distilled,),
        keep=0,
        out=tmp_path / "small",
    )
    assert 9 + NUM_PROMPTS < trimmed["kept"] < 60
    assert trimmed["share_of_answer_tokens"] == 1.0
    table = step(
        "table",
        model=target,
        language="de",
        answers=(distilled,),
        corpora=(corpus,),
        min_count=1,
        out=tmp_path / "de.table",
    )
    assert table["contexts"] > table["contexts_of_answers"] > 0

    arms = {
        "P": tmp_path / "p/model",
        "PF": tmp_path / "pf/model",
        "small": tmp_path / "small",
        "table": tmp_path / "de.table",
    }
    asked = {"model": target, "language": "de", "prompts": prompts, **ANSWERING}
    named = {"model": target, "language": "de", "name": "tiny-de"}
    step("export", drafter=arms["small"], out=tmp_path / "known", **named)
    arms["known"] = tmp_path / "known"
    for name in ("PF", "small", "known", "table"):
        with pytest.raises(SetupError, match=f"learned answers to {NUM_PROMPTS} of"):
            step("evaluate", drafters=(f"{name}={arms[name]}",), out=tmp_path / "no", **asked)
    drafters = tuple(f"{name}={path}" for name, path in arms.items())
    figures = step("evaluate", drafters=drafters, seen=True, out=tmp_path / "eval", **asked)
    greedy = {name: each["accepted_length"] for name, each in figures["replayed"]["0.0"].items()}
    assert figures["prompts"] == NUM_PROMPTS
    assert greedy["none"] == 1.0
    assert greedy["PF"] > 2 > greedy["P"]
    assert greedy["table"] > 2
    assert greedy["small"] == pytest.approx(greedy["PF"], rel=0.1)
    assert set(figures["replayed"]["1.0"]) == set(greedy)
    assert figures["replayed"]["0.0"]["PF"]["estimated_speedup"] > 0
    assert figures["learned_tokens"]["PF"] == tuned["learned_tokens"]
    assert (tmp_path / "eval/figures.png").stat().st_size > 3000

    made = step(
        "export",
        model=target,
        drafter=tmp_path / "small",
        language="de",
        name="tiny-de",
        out=tmp_path / "export",
        full=tmp_path / "full",
        figures=tmp_path / "eval/figures.json",
        arm="small",
    )
    assert made["bytes"] < 100_000
    card = (tmp_path / "export/README.md").read_text()
    assert "language: de" in card.split("---")[1]
    assert f"| tokens a step at T=0.0: small | {greedy['small']} |" in card
    assert "ngram" in card
    assert "PF" not in card
    assert Drafter.load(tmp_path / "export", "cpu").vocabulary.own_size == trimmed["kept"] + 1
    full = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert full.config.vocab_size == 260
    small = Drafter.load(tmp_path / "export", "cpu")
    kept = torch.tensor(small.vocabulary.kept)
    chat = Chat.of(target)
    ids = torch.tensor([chat.prompt([{"role": "user", "content": "A"}])])
    said = full(ids).logits[0, -1]
    others = torch.ones(260, dtype=torch.bool)
    others[kept] = False
    assert said[others].max() < said[kept].min() - 50

    step(
        "export",
        model=target,
        drafter=tmp_path / "de.table",
        language="de",
        name="tiny-de",
        out=tmp_path / "table",
    )
    settings = SpeculationSettings(tables={"de": tmp_path / "table/de.table"})
    assert plan_of(settings, target)["tables"]["de"].endswith("de.table")


def test_a_killed_run_goes_on_to_the_same_drafter(
    target: Path, distilled: Path, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    how = TRAINING | {"model": target, "answers": (distilled,), "epochs": 4, "keep": 40}
    how |= {"log_steps": 1}
    step("finetune", out=tmp_path / "whole", **how)

    def kill(self: Budget, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step == 3
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_step_end", kill)
        with pytest.raises(KeyboardInterrupt):
            step("finetune", out=tmp_path / "killed", **how)
    step("finetune", out=tmp_path / "killed", **how)

    one, other = (
        load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "killed")
    )
    assert all((one[name] - other[name]).abs().max() < 1e-6 for name in one)
    lines = (tmp_path / "killed/metrics.jsonl").read_text().splitlines()
    losses = [row["autoregressive"] for row in map(json.loads, lines) if "autoregressive" in row]
    assert losses[-1] < losses[0]


def test_killed_answering_goes_on_to_the_same_answers(
    target: Path, distilled: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    out = tmp_path / "de"
    out.mkdir()
    (out / "run.json").write_bytes((distilled / "run.json").read_bytes())
    lines = (distilled / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (out / "answers.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:20])
    how = {"language": "de", "prompts": prompts, "temperatures": (0.0, 0.5), **ANSWERING}

    card = step("distil", model=target, out=out, **how)

    again = (out / "answers.jsonl").read_bytes().splitlines(keepends=True)
    assert sorted(again) == sorted(lines)
    assert card == json.loads((distilled / "card.json").read_text())
    assert card["answers_by_temperature"]["0.0"] == NUM_PROMPTS


def test_dry_runs_leave_nothing(
    target: Path, prompts: Path, corpus: Path, distilled: Path, tmp_path: Path, step: Step
) -> None:
    folder = tmp_path / "out"
    out = {"out": folder, "dry_run": True}
    asked = {"language": "de", "prompts": prompts, **ANSWERING}
    assert step("distil", model=target, **asked, **out)["answers"] == 4 * NUM_PROMPTS
    trained = {"model": target, "max_length": 32, **TRAINING}
    said = step("pretrain", corpora=(corpus,), **trained, **out)
    assert said["minutes_for_all"] >= 0
    assert step("finetune", answers=(distilled,), **trained, **out)["samples"] > NUM_PROMPTS
    text = {"sources": (corpus,), "language": "de", "license": "x"}
    assert step("corpus", **text, **out)["kinds"] == {"jsonl": 2}
    assert not folder.exists() or not any(folder.iterdir())


def test_what_is_not_fit_is_refused(
    target: Path, prompts: Path, corpus: Path, distilled: Path, tmp_path: Path, step: Step
) -> None:
    def refused(match: str, name: str, /, **options: Any) -> None:
        with pytest.raises(SetupError, match=match):
            step(name, **{"model": target, "out": tmp_path / "new"} | options)

    asked: dict[str, Any] = {"language": "de", **ANSWERING}
    named = {"language": "de", "name": "x"}
    refused("give one of them", "distil", **asked)
    refused("give one of them", "distil", prompts=prompts, corpus=corpus, **asked)
    refused("no prompt in ja", "distil", prompts=prompts, **(asked | {"language": "ja"}))
    refused("no questions in da", "distil", corpus=corpus, **(asked | {"language": "da"}))
    refused(
        "begun with other", "distil", prompts=prompts, **(asked | {"out": distilled, "seed": 9})
    )
    refused("no answer is fit", "distil", prompts=prompts, min_tokens=99, **asked)
    # Its answers are there, whatever is kept of them.
    patched = {"max_tokens": 40, "min_tokens": 4, "out": tmp_path / "new"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "_answered", unasked)
        assert step("distil", model=target, prompts=prompts, **(asked | patched))["answers"] > 0
    shutil.rmtree(tmp_path / "new")
    refused("--language takes a code", "distil", prompts=prompts, **(asked | {"language": "De"}))
    refused("--num takes 1 or more, not 0", "distil", prompts=prompts, num=0, **asked)
    refused("--draft-tokens takes 1 to 64", "evaluate", prompts=prompts, draft_tokens=65, **asked)
    refused("go with --timed", "evaluate", prompts=prompts, auto="x", **asked)
    refused("--heads takes 1 or more", "pretrain", corpora=(corpus,), **(TRAINING | {"heads": 0}))
    refused("is of de, not of fr", "table", language="fr", answers=(distilled,))
    refused("is of de, not of fr", "table", language="fr", corpora=(corpus,))
    refused("nothing was seen 9999", "table", language="de", corpora=(corpus,), min_count=9999)
    refused("is not what `distil` makes", "table", language="de", answers=(corpus,))
    unfit = tmp_path / "unfit"
    shutil.copytree(distilled, unfit)
    (unfit / "answers.jsonl").write_text('{"id": 1}\n')
    refused("answers.jsonl:1 is no answer", "table", language="de", answers=(unfit,))
    (unfit / "answers.jsonl").write_text("{\n")
    refused("answers.jsonl:1 is damaged", "table", language="de", answers=(unfit,))
    (unfit / "answers.jsonl").unlink()
    refused("answers.jsonl is not there", "table", language="de", answers=(unfit,))
    assert not (unfit / "answers.jsonl").exists()
    (unfit / "card.json").write_text("[1]")
    refused("card.json is damaged", "table", language="de", answers=(unfit,))
    (unfit / "train.jsonl").write_text('{"question": "x"}\n')
    refused("holds no corpus", "pretrain", corpora=(unfit,), **TRAINING)
    (unfit / "run.json").write_text("{")
    refused("run.json is damaged", "distil", prompts=prompts, **(asked | {"out": unfit}))
    refused("File exists", "distil", prompts=prompts, **(asked | {"out": unfit / "card.json"}))
    refused("no card.json", "finetune", answers=(tmp_path,), **TRAINING)
    refused("holds no corpus", "pretrain", corpora=(tmp_path,), **TRAINING)
    refused("even multiple", "pretrain", corpora=(corpus,), **(TRAINING | {"hidden_size": 33}))
    refused("lower --max-length", "pretrain", corpora=(corpus,), **TRAINING, max_length=10**6)
    for name in ("batch", "accumulate", "max_length"):
        refused(
            f"--{name.replace('_', '-')} takes 1", "finetune", answers=(distilled,), **{name: 0}
        )
    refused("--epochs takes", "finetune", answers=(distilled,), epochs=0)
    tiny = {"answers": (distilled,), "max_length": 3, **TRAINING}
    refused("would learn nothing", "finetune", **tiny)
    refused("holds no drafter", "trim", drafter=tmp_path, answers=(distilled,))
    refused("NAME=PATH", "evaluate", prompts=prompts, drafters=("x",), **asked)
    refused("is not there", "evaluate", prompts=prompts, drafters=("x=y",), **asked)
    refused("give one", "table", language="de")
    refused("no table fits", "table", language="de", answers=(distilled,), max_bytes=20)
    table = tmp_path / "de.table"
    made = step("table", model=target, language="de", answers=(distilled,), out=table)
    fewer = tmp_path / "fewer.table"
    few = step("table", model=target, language="de", answers=(distilled,), num=3, out=fewer)
    assert few["answers"] == 3
    assert 0 < few["learned_tokens"] < made["learned_tokens"] == learned_tokens(table)
    refused("not of fr", "export", drafter=table, language="fr", name="x")
    figures = tmp_path / "figures.json"
    figures.write_text('{"language": "fr", "replayed": {"0.0": {"none": {"accepted_length": 1}}}}')
    refused("figures of fr", "export", drafter=table, figures=figures, **named)
    figures.write_text(figures.read_text().replace("fr", "de"))
    refused("no arm x: it has none", "export", drafter=table, figures=figures, arm="x", **named)
    figures.write_text("[1]")
    refused("holds no figures", "export", drafter=table, figures=figures, **named)
    unfit_fields: list[dict[str, Any]] = [
        {"tokenizer": "x"},
        {"vocabulary": 999},
        {"followers": {}},
    ]
    for fields in unfit_fields:
        foreign = msgspec.structs.replace(NgramTable.decode(table.read_bytes()), **fields)
        (tmp_path / "x.table").write_bytes(foreign.encode())
        match = "x.table is of another tokenizer" if "followers" not in fields else "no n-gram"
        refused(match, "export", drafter=tmp_path / "x.table", language="de", name="x")
        refused(match, "evaluate", prompts=prompts, drafters=(f"x={tmp_path}/x.table",), **asked)
    (tmp_path / "x.table").write_bytes(b"1")
    refused("x.table: not an n-gram table", "export", drafter=tmp_path / "x.table", **named)
    refused("MB and may have", "export", drafter=table, language="de", name="x", max_bytes=9)

    other = tmp_path / "other"
    shutil.copytree(target, other)
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    refused("another tokenizer", "finetune", model=other, answers=(distilled,), **TRAINING)


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_answers_and_times_are_those_of_the_engine(
    target: Path, distilled: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    in_engine = {"language": "de", "prompts": prompts, **(ANSWERING | {"engine": "vllm"})}
    greedily = {"model": target, "temperatures": (0.0,), **in_engine}
    step("distil", out=tmp_path / "de", **greedily)
    table = tmp_path / "de.table"
    step("table", model=target, language="de", answers=(distilled,), min_count=1, out=table)

    timed = {"model": target, "out": tmp_path / "eval", "timed": True, "seen": True, **in_engine}
    timed |= {"drafters": (f"table={table}", f"same={table}"), "timed_tables": ("table",)}
    first = step("evaluate", timed_temperatures=(0.0,), timed_num=NUM_PROMPTS - 2, **timed)
    assert set(first["timed"]) == {"0.0"}
    turns = timed_rows(tmp_path / "eval")
    assert len(turns) == NUM_PROMPTS - 2
    # Killed in the middle of a line, it goes on with the next prompt; and so with what is added.
    path = tmp_path / "eval/timed/rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:30])
    figures = step("evaluate", **timed)
    again = timed_rows(tmp_path / "eval")
    assert again[: NUM_PROMPTS - 4] == turns[:-2]
    assert {(row["temperature"], *row["prompts"]) for row in again} == {
        (float(number % 2), number) for number in range(2 * NUM_PROMPTS)
    }
    assert len(again) == 2 * NUM_PROMPTS
    assert len({next(iter(row["arms"])) for row in again}) == 4  # each arm is first now and then
    with pytest.raises(SetupError, match="begun with other tables"):
        step("evaluate", **(timed | {"timed_tables": ("same",)}))

    by_engine, by_transformers = (
        {tuple(row["prompt"]): row["answer"] for row in rows if row["id"] % each == 0}
        for each, rows in (
            (1, read(tmp_path / "de/answers.jsonl")),
            (2, read(distilled / "answers.jsonl")),
        )
    )
    assert by_engine == by_transformers
    assert set(figures["timed"]) == {"0.0", "1.0"}
    for arms in figures["timed"].values():
        assert arms["none"]["tokens_per_step"] == arms["none"]["speedup"] == 1.0
        # How much more, if at all, depends on what a step costs here: the controller drafts what
        # pays. What a table is worth is in `replayed`, which is not timed.
        assert arms["table"]["tokens_per_step"] >= 1.0
        assert arms["table"]["tokens_per_s"] > 0
        assert arms.keys() == {"batches", "looping_batches", "none", "ngram", "table", "auto"}
    assert figures["replayed"]["0.0"]["table"]["accepted_length"] > 2


def unasked(*_: object) -> Any:
    raise AssertionError("the answers were known")


def learned_tokens(table: Path) -> int:
    return NgramTable.decode(table.read_bytes()).learned_tokens


def timed_rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "figures.json").read_text())["timed_rows"]
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
