"""What was computed ahead of one turn, and what of it was used."""

import pytest

from headstart.stages.warm_budget import TokenBudget
from headstart.stages.warm_ledger import WarmLedger


@pytest.mark.parametrize(
    ("num_cached", "num_decoded", "wasted"),
    [(640, 0, 0), (576, 0, 64), (640, 64, 64), (1000, 64, 0), (32, 64, 640)],
)
def test_what_was_decoded_is_not_taken_for_what_was_computed(
    num_cached: int, num_decoded: int, wasted: int
) -> None:
    """64 of 640 were edited away; the answer finds as many tokens of thoughts in the cache."""
    ledger = WarmLedger(TokenBudget())
    ledger.computed(0, 640, 0, 2.0, 0.0)

    account = ledger.settle(num_cached, num_decoded)

    assert account.wasted_tokens == wasted
    assert account.hidden_s == pytest.approx(2.0 * (640 - wasted) / 640)
