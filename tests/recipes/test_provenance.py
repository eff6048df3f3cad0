"""What made weights, told from a run's result."""

from typing import Any

import pytest

from headstart.recipes.provenance import training_from


def result(method: str, tokens: int, begun: dict[str, Any] | None) -> dict[str, Any]:
    told = {"samples": 1, "tokens": tokens, "elapsed_s": 60.0, "machine": "a machine"}
    return told | {"options": {"method": method}, "begun_from": begun}


@pytest.mark.parametrize(
    ("methods", "before"),
    [
        (["jacobi-forcing"], 0),
        (["sft", "jacobi-forcing"], 0),
        (["jacobi-forcing", "cllm"], 1),
        (["sft", "jacobi-forcing", "sft", "jacobi-forcing"], 10),
        (["jacobi-forcing", "jacobi-forcing", "sft"], 11),
    ],
)
def test_tokens_before_are_those_of_every_round_and_of_no_sft(
    methods: list[str], before: int
) -> None:
    begun = None
    for place, method in enumerate(methods):
        begun = training_from(result(method, 10**place, begun))

    assert begun is not None
    assert begun["tokens_before"] == before
