"""What a run is to be, before anything is loaded."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes import planning
from headstart.recipes.consistency_options import TrainOptions
from headstart.recipes.learning import faster_dtype, settled
from headstart.recipes.options import add_flags, from_flags
from headstart.recipes.planning import check, identity, planned, result_of, width_of, with_dtype
from headstart.stages.errors import SetupError


def options(out: Path, **changed: Any) -> TrainOptions:
    return TrainOptions(model="m", data=Path("data"), out=out, **changed)


def begun(run: Path, made: TrainOptions, samples: int) -> Path:
    """A run with a kept checkpoint."""
    kept = run / "kept" / str(samples)
    kept.mkdir(parents=True)
    state = {"log_history": [{"samples": samples}]}
    (kept / "trainer_state.json").write_text(json.dumps(state))
    (run / "run.json").write_text(json.dumps(identity(made)))
    return kept


def test_arithmetic_is_measured_once_for_a_run_and_what_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 576}')
    monkeypatch.setattr(planning, "faster_dtype", lambda device, width: f"{device} {width}")
    run, later = tmp_path / "run", tmp_path / "later"
    assert with_dtype(options(run), width_of(tmp_path), "cpu").dtype == "cpu 576"
    assert with_dtype(options(run, dtype="float32"), width_of(tmp_path), "cpu").dtype == "float32"

    kept = begun(run, options(run, dtype="float32"), 12)

    assert with_dtype(options(run), width_of(tmp_path), "cpu").dtype == "float32"
    assert with_dtype(options(later, start=kept), width_of(tmp_path), "cpu").dtype == "float32"


def test_some_arithmetic_is_the_faster_one() -> None:
    assert faster_dtype("cuda", 64) == "bfloat16"
    assert faster_dtype("cpu", 64) in ("bfloat16", "float32")
    # A draw, or what a neighbour makes of one, is always settled alike.
    assert settled(1.0, 1.0) == settled(1.2, 1.0) == settled(1.0, 3.0) == "bfloat16"
    assert settled(1.5, 1.0) == "float32"


def test_a_kept_checkpoint_ends_where_its_run_would_have_begun_to_fall(tmp_path: Path) -> None:
    made = options(tmp_path / "run", decay=0.2)
    kept = begun(tmp_path / "run", made, 2000)

    assert planned(options(tmp_path / "x", start=kept, decay=0.2), 10_000) == 2500
    assert planned(options(tmp_path / "x", start=kept, max_samples=2100), 10_000) == 2100
    assert planned(options(tmp_path / "x", epochs=0.5), 10_000) == 5000


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    kept = begun(tmp_path / "run", options(tmp_path / "run"), 40)
    check(options(tmp_path / "x", start=kept))
    for match, wrong in (
        ("--decay", {"decay": 0.0}),
        ("--decay", {"decay": 1.5}),
        ("made with other window", {"start": kept, "window": 3}),
        ("in `kept` of a run", {"start": tmp_path / "nowhere" / "kept" / "40"}),
    ):
        with pytest.raises(SetupError, match=match):
            check(options(tmp_path / "x", **wrong))


def test_a_result_is_that_of_a_run_just_as_long(tmp_path: Path) -> None:
    note = {"planned": 100, "samples": 100, "options": {"max_minutes": None}}
    (tmp_path / "result.json").write_text(json.dumps(note))
    assert result_of(options(tmp_path), 100) == note
    assert result_of(options(tmp_path), 200) is None
    assert result_of(options(tmp_path), 50) is None


def test_other_workers_would_count_samples_otherwise(tmp_path: Path) -> None:
    assert identity(options(tmp_path)) != identity(options(tmp_path, workers=2))


@pytest.mark.parametrize("name", ["copies", "window", "max-length", "workers", "max-minutes"])
def test_numbers_of_none_are_refused(tmp_path: Path, name: str) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, TrainOptions)
    said = ["--model", "m", "--data", "d", "--out", str(tmp_path), f"--{name}", "0"]
    with pytest.raises(SetupError, match=f"--{name} takes"):
        from_flags(TrainOptions, parser.parse_args(said))
