"""What the decode benchmark asks for and replays."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.benchmarks.decode_tasks import TASKS, is_looping, questions
from headstart.benchmarks.replay_drafter import ReplayDrafter, replaying, write_answers
from headstart.cluster.parallel_drafter import SPECULATION, plan_of
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.drafting import Verdict
from headstart.stages.speculation import RowStep, Wish


@pytest.mark.parametrize("task", TASKS)
def test_tasks_have_prompts_enough(task: str) -> None:
    found = questions(task, 36, None, 1)

    assert len(set(found)) == 36
    assert found == questions(task, 36, None, 1)


def test_looping_answers_are_told() -> None:
    assert is_looping([9, 9, *([1, 2, 3] * 30)])
    assert is_looping([7] * 64)
    assert not is_looping(list(range(100)))
    assert not is_looping([7] * 63)


def test_replay_is_right_as_often_as_asked(tmp_path: Path) -> None:
    answer = list(range(10, 40))
    write_answers(tmp_path / "known", [([1, 2], answer)])
    settings = SpeculationSettings(is_adaptive=False)
    model = SimpleNamespace(get_vocab_size=lambda: 50)
    plan = {SPECULATION: plan_of(settings, tmp_path)}
    drafter = ReplayDrafter(SimpleNamespace(model_config=model, additional_config=plan))
    wish = Wish.of(replaying(tmp_path / "known", 3, 5), "off")
    drafter.begin("a", [1, 2], wish)
    at = 1
    drafted: list[int] = []
    while True:
        verdict = Verdict(answer[at - 1 : at] if not drafted else answer[at - 4 : at], drafted)
        [drafted] = drafter.propose([RowStep("a", verdict, room=16)], seconds=0.01)
        if not drafted:
            break
        assert len(drafted) == 5
        assert drafted[:3] == answer[at : at + 3]
        assert all(
            token != right
            for token, right in zip(drafted[3:], answer[at + 3 : at + 5], strict=True)
        )
        at += 4
    assert at > len(answer) - 6
