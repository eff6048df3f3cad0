"""What timed turns say: pairs of arms, turns that loop left out, an interval over turns."""

from pathlib import Path
from typing import Any

import pytest

from headstart.recipes.drafter_evaluating import EvaluateOptions
from headstart.recipes.drafter_timing import figures_of, timed
from headstart.stages.errors import SetupError


def turn(number: int, seconds: float, speedup: float, *, loops: bool = False) -> dict[str, Any]:
    def arm(took: float, steps: int) -> dict[str, float]:
        return {"gained": 60, "seconds": took, "tokens": 60, "steps": steps}

    return {
        "temperature": 0.0,
        "prompts": [number],
        "loops": loops,
        "arms": {"table": arm(seconds / speedup, 40), "none": arm(seconds, 60)},
    }


def test_a_speed_up_is_of_pairs_and_turns_that_loop_are_left_out() -> None:
    rows = [turn(n, seconds=1 + n % 5, speedup=1.2) for n in range(20)]
    rows.append(turn(20, seconds=2, speedup=9.0, loops=True))

    (found,) = figures_of(rows).values()

    assert (found["batches"], found["looping_batches"]) == (20, 1)
    assert found["none"]["speedup"] == 1
    assert found["table"]["speedup"] == 1.2
    assert found["table"]["tokens_per_step"] == 1.5
    # Slow and fast turns alike: as they are pairs, nothing is uncertain.
    assert found["table"]["speedup_95"] == [1.2, 1.2]

    rows[0] = turn(0, seconds=1, speedup=0.5)
    low, high = figures_of(rows)["0.0"]["table"]["speedup_95"]
    assert low < figures_of(rows)["0.0"]["table"]["speedup"] <= high


def test_few_turns_have_no_interval() -> None:
    found = figures_of([turn(n, 1, 1.2) for n in range(7)])["0.0"]["table"]
    assert (found["speedup"], found["speedup_95"]) == (1.2, None)


def test_where_all_turns_loop_nothing_is_said() -> None:
    assert figures_of([turn(0, 1, 1, loops=True)]) == {"0.0": {"batches": 0, "looping_batches": 1}}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"auto": "other"}, "--auto takes the name of a table"),
        ({"timed_num": 6, "timed_batch": 4}, "--timed-num takes a multiple of --timed-batch"),
        ({"timed_tables": ("other",)}, "--timed-tables takes names of tables in --drafters: other"),
        ({"timed_temperatures": (0.5,)}, "--timed-temperatures takes some of --temperatures: 0.5"),
    ],
)
def test_what_is_to_be_timed_is_there(tmp_path: Path, fields: dict[str, Any], refusal: str) -> None:
    options = EvaluateOptions(model="x", language="de", out=tmp_path, timed=True, **fields)
    with pytest.raises(SetupError, match=refusal):
        timed(options, tmp_path, {}, {})
