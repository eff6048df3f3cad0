"""Compares two requests' stages, one of which was held up somewhere on purpose."""

import pytest

from headstart.stages.stage_clock import Stage

__all__ = ["DELAY_S", "TOLERANCE_S", "check", "moved"]

DELAY_S = 0.5
TOLERANCE_S = 0.1 * DELAY_S

Stages = dict[str, float]


def moved(usual: Stages, delayed: Stages) -> Stages:
    """Return the stages that took longer or shorter, and by how much."""
    assert list(delayed) == list(usual)
    return {
        stage: round(span, 3)
        for stage in usual
        if abs(span := delayed[stage] - usual[stage]) > TOLERANCE_S
    }


def check(stage: Stage, usual: tuple[Stages, float], delayed: tuple[Stages, float]) -> None:
    """Expect `DELAY_S` in one stage and in the client's own time, and no other change.

    Args:
        usual: Stages of a request, and how long it took by its client's clock.
        delayed: The same of the request that was held up.
    """
    found = moved(usual[0], delayed[0])
    assert set(found) == {stage}, found
    assert found[stage] == pytest.approx(DELAY_S, abs=TOLERANCE_S)
    assert delayed[1] - usual[1] == pytest.approx(DELAY_S, abs=TOLERANCE_S)
