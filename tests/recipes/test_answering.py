"""Many answers from an engine: some noted at a time, as many under way as are asked for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from headstart.cluster.engine_child import Done
from headstart.recipes import engine
from headstart.recipes.answering import Question, answer_all, answered
from headstart.recipes.models import Chat, load
from headstart.recipes.samples import Lines


class Queued:
    """Says three tokens to each prompt, and dies at a call if it is told to."""

    calls: list[tuple[int, int | None]]
    dies_at = 0

    def __init__(self, _folder: Path, **_: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def answer(self, asked: list[Question], max_tokens: int, *, at_once: int | None = None) -> Done:
        self.calls.append((len(asked), at_once))
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        prompts = [each.prompt for each in asked]
        return Done(prompts, [[7, 8, 0] for _ in asked], [], [], None)


def test_a_long_answer_holds_one_place_and_what_is_done_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Engine", Queued)
    monkeypatch.setattr(Queued, "calls", [], raising=False)
    monkeypatch.setattr(Queued, "dies_at", 2)
    chat: Any = SimpleNamespace(ends=frozenset({0}))
    how: Any = SimpleNamespace(engine="vllm", dtype="bfloat16", device="cpu", batch=4, max_tokens=3)
    asked = {number: Question([number]) for number in range(50)}
    path = tmp_path / "answers.jsonl"

    with pytest.raises(KeyboardInterrupt):
        answer_all(tmp_path, chat, asked, path, how)
    assert len(list(Lines(path))) == 32
    answer_all(tmp_path, chat, asked, path, how)

    assert Queued.calls == [(32, 4), (18, 4), (18, 4)]
    assert sorted(row["id"] for row in Lines(path)) == list(range(50))
    assert all(row["has_ended"] for row in Lines(path))


def test_the_likeliest_token_is_said_whatever_the_model_asks_for(tiny_model: Path) -> None:
    chat = Chat.of(tiny_model)
    model = load(tiny_model, "cpu", "float32").eval()
    asked = [Question(chat.prompt([{"role": "user", "content": text}])) for text in ("A", "B")]
    plain = answered(model, chat, asked, 24)

    model.generation_config.repetition_penalty = 1.5
    model.generation_config.no_repeat_ngram_size = 2

    assert answered(model, chat, asked, 24) == plain
    assert model.generation_config.repetition_penalty == 1.5
