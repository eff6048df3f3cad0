"""What is taken of the logits of a step in which drafts are verified."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from headstart.cluster.captured import Captured  # noqa: E402

NUM_DRAFTED = [1, 0, 1, 2]
"""Of requests whose positions are 0-1, 2, 3-4 and 5-7."""


def captured(*broken: int, is_watched: tuple[bool, ...] = (True, False, False, True)) -> Captured:
    logits = torch.eye(8, 9)
    logits[list(broken)] = float("nan")
    found = Captured(logits, NUM_DRAFTED, is_watched)
    logits.zero_()  # as the sampler works on them in place
    return found


def test_predictions_are_those_of_who_looks_at_them() -> None:
    assert captured().read() == [
        (False, [0, 1]),
        (False, []),
        (False, []),
        (False, [5, 6, 7]),
    ]
    neighbours = captured(is_watched=(False, False, True, True))
    assert [found for _, found in neighbours.read()] == [[], [], [3, 4], [5, 6, 7]]
    assert [found for _, found in captured(is_watched=(False,) * 4).read()] == [[]] * 4


def test_predictions_are_taken_from_who_has_found_them() -> None:
    logits = torch.eye(8, 9)
    found = Captured(logits, NUM_DRAFTED, (True, False, False, True), is_told=True)

    assert [predictions for _, predictions in found.read()] == [[]] * 4
    found.take(torch.arange(8) + 10)
    assert [predictions for _, predictions in found.read()] == [[10, 11], [], [], [15, 16, 17]]


def test_of_equally_likely_tokens_in_half_precision_the_first_is_predicted() -> None:
    logits = torch.zeros(3, 9, dtype=torch.bfloat16)
    logits[:, 4:6] = 1

    assert Captured(logits, [2], [True]).read() == [(False, [4, 4, 4])]


@pytest.mark.parametrize(
    ("broken", "requests"), [([4], [2]), ([3], [2]), ([1, 6], [0, 3]), ([2], []), ([], [])]
)
def test_broken_logits_are_noticed_whoever_drafts(broken: list[int], requests: list[int]) -> None:
    """Who has no draft is no business of ours: its token is the plain engine's."""
    found = captured(*broken).read()

    assert [row for row, (is_broken, _) in enumerate(found) if is_broken] == requests


def test_tokens_of_broken_logits_are_taken_back() -> None:
    sampled = torch.tensor([[1, 2, -1], [3, -1, -1], [4, 5, -1], [6, 7, 8]])

    captured(0, 1, 2, 3, 6).cut(sampled)

    assert sampled.tolist() == [[1, -1, -1], [3, -1, -1], [4, 5, -1], [6, -1, -1]]
    captured().cut(sampled)
    assert sampled.tolist() == [[1, -1, -1], [3, -1, -1], [4, 5, -1], [6, -1, -1]]
