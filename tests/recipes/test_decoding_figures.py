"""Losses on the same answers side by side, and intervals that grow with what differs."""

import pytest

from headstart.recipes.decoding_figures import change_of, figures_of


def test_a_change_of_loss_is_of_the_answers_that_both_have() -> None:
    base = {str(n): [10.0 + n, 20.0] for n in range(40)}
    tuned = {name: [loss * 1.01, num] for name, (loss, num) in base.items()} | {"99": [1e9, 1.0]}

    found = change_of(tuned, base, seed=0)

    assert found["loss_change"] == pytest.approx(0.01)
    assert found["loss_change_95"] == pytest.approx([0.01, 0.01])
    assert change_of(tuned, {"0": [1.0, 1.0]}, 0)["loss_change_95"] is None
    assert change_of({}, base, 0) == {}


def test_an_interval_holds_what_other_answers_would_have_given() -> None:
    parts = [{"num": 1, "tokens": 20 + 10 * (n % 2), "rows": 10} for n in range(100)]
    turn = {"answers": [[1]] * 100, "different": 3, "not_looping": parts, "looping": []}

    figures, plain = figures_of([turn, turn], seed=0)

    low, high = figures["not_looping"]["tokens_per_step_95"]
    assert low < 2.5 < high
    assert 0.1 < high - low < 0.2  # four standard errors of 0.5 over the root of 200
    assert (figures["answers_that_differ"], len(plain)) == (6, 200)
    assert "looping" not in figures
