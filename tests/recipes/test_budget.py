"""How high the learning rate is, what is kept, and when a run or a part of it ends."""

import json
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.recipes import budget
from headstart.recipes.budget import Budget
from headstart.recipes.checkpoints import keep, resumable, samples_of
from headstart.stages.errors import SetupError

Clock = list[float]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def made(**changed: Any) -> Budget:
    plain: dict[str, Any] = {"num_steps": 100, "samples_per_step": 4, "decay": 0.2, "max_s": None}
    plain["warm_up"] = 20
    return Budget(**(plain | {"piece_s": None, "save_s": 300.0, "milestone": None} | changed))


def begin(subject: Budget, step: int = 0, elapsed_s: float = 0.0) -> None:
    state = SimpleNamespace(global_step=step, log_history=[{"elapsed_s": elapsed_s}])
    subject.on_train_begin(None, state, None)


def test_what_goes_on_has_the_rate_of_its_own_plan() -> None:
    group = {"initial_lr": 0.01, "lr": 0.004}  # which had begun to fall
    state = SimpleNamespace(global_step=81, log_history=[])
    made(num_steps=1000).on_train_begin(
        None, state, None, optimizer=SimpleNamespace(param_groups=[group])
    )
    assert group["lr"] == 0.01


def after(subject: Budget, step: int) -> tuple[bool, bool]:
    """Whether a step's end saves, and whether it is the last."""
    control = SimpleNamespace(should_save=False, should_log=False, should_training_stop=False)
    subject.on_step_end(None, SimpleNamespace(global_step=step), control)
    assert control.should_log == control.should_save
    return control.should_save, control.should_training_stop


def test_the_learning_rate_rises_stands_and_falls_to_nothing() -> None:
    subject = made(num_steps=1000)
    rates = [subject.rate(step) for step in range(1001)]

    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert set(rates[20:800]) == {1.0}
    assert all(one > other for one, other in pairwise(rates[800:]))
    assert rates[1000] == 0


@pytest.mark.parametrize("steps", [30, 100, 1000])
def test_until_it_falls_a_longer_run_has_the_same_learning_rate(steps: int) -> None:
    one, longer = made(num_steps=steps), made(num_steps=5000)
    before = range(steps * 4 // 5)

    assert [one.rate(n) for n in before] == [longer.rate(n) for n in before]


def test_a_run_that_ends_in_time_counts_the_time_before_a_kill(clock: Clock) -> None:
    subject = made(max_s=1000.0, num_steps=10**9)
    begin(subject, elapsed_s=700.0)

    clock[0] += 90
    after(subject, 500)
    assert subject.rate(500) == 1.0
    clock[0] += 160
    after(subject, 501)
    assert 0 < subject.rate(501) < 0.5
    clock[0] += 50
    assert after(subject, 502) == (True, True)
    assert subject.rate(502) == 0
    assert not subject.is_paused


def test_a_piece_ends_with_its_learning_rate_untouched(clock: Clock) -> None:
    subject = made(piece_s=60.0)
    begin(subject, step=30, elapsed_s=5000.0)

    clock[0] += 59
    assert after(subject, 31) == (False, False)
    clock[0] += 1
    assert after(subject, 32) == (True, True)
    assert subject.is_paused
    assert subject.rate(32) == 1.0


def test_a_piece_that_reaches_the_end_of_the_run_is_no_pause(clock: Clock) -> None:
    subject = made(piece_s=60.0)
    begin(subject, step=99)

    clock[0] += 100
    assert after(subject, 100) == (True, True)
    assert not subject.is_paused


def test_checkpoints_are_kept_as_samples_double_and_where_the_rate_begins_to_fall(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(budget, "keep", lambda _out, _step, samples: kept.append(samples))
    subject = made(milestone=30)
    begin(subject)

    for step in range(1, 101):
        saves, _ = after(subject, step)
        if saves:
            state = SimpleNamespace(global_step=step, is_world_process_zero=True)
            subject.on_save(SimpleNamespace(output_dir="run"), state, None)

    assert kept == [32, 60, 120, 240, 320]


def checkpoint(out: Path, step: int, share: float) -> None:
    folder = out / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    line = {"samples": 4 * step, "share": share, "elapsed_s": 3.0 * step}
    state = {"global_step": step, "log_history": [line]}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def test_a_run_that_becomes_longer_goes_on_from_before_the_rate_fell(tmp_path: Path) -> None:
    checkpoint(tmp_path, 80, 0.8)
    keep(tmp_path, 80, 320)
    (tmp_path / "kept" / "640.partial").mkdir()
    assert resumable(tmp_path, {"samples": 400}, 0.2) == tmp_path / "checkpoint-80"
    checkpoint(tmp_path, 90, 0.9)
    assert resumable(tmp_path, {"samples": 400}, 0.2) == tmp_path / "checkpoint-90"
    (tmp_path / "checkpoint-80" / "trainer_state.json").unlink()

    found = resumable(tmp_path, {"samples": 800}, 0.2)

    assert found == tmp_path / "kept" / "320"
    assert samples_of(found) == 320
    assert not list(tmp_path.glob("checkpoint-*"))
    assert resumable(tmp_path, {"samples": 800}, 0.2) == found


@pytest.mark.parametrize("plan", [{"samples": 8000}, {"samples": 16000, "max_minutes": 100}])
def test_a_run_that_came_too_far_to_be_shorter_is_left_as_it_is(
    tmp_path: Path, plan: dict[str, Any]
) -> None:
    for step in (1000, 2000):
        checkpoint(tmp_path, step, step / 4000)
        keep(tmp_path, step, 4 * step)
    checkpoint(tmp_path, 2250, 2250 / 4000)
    assert resumable(tmp_path, {"samples": 16000}, 0.2) == tmp_path / "checkpoint-2250"
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(SetupError, match=r"seen 9,000 samples.*--start .*kept/4000"):
        resumable(tmp_path, plan, 0.2)

    assert sorted(tmp_path.rglob("*")) == before
    assert resumable(tmp_path, {"samples": 16000}, 0.2) == tmp_path / "checkpoint-2250"
    # A little shorter is the same run, up to here.
    assert resumable(tmp_path, {"samples": 11250}, 0.2) == tmp_path / "checkpoint-2250"


def test_a_run_that_fell_all_along_cannot_become_longer(tmp_path: Path) -> None:
    assert resumable(tmp_path, {"samples": 400}, 1.0) is None
    checkpoint(tmp_path, 10, 0.1)

    with pytest.raises(SetupError, match="has begun to fall"):
        resumable(tmp_path, {"samples": 800}, 1.0)


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no whole checkpoint"):
        samples_of(tmp_path / "kept" / "12")
