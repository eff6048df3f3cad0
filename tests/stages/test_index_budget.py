"""Time of a step and memory, shared out among those who index."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Verdict
from headstart.stages.index_budget import IndexBudget, shares

LONG = 16_384
WANTED = st.dictionaries(st.integers(), st.integers(1, 20_000), min_size=1, max_size=40)


@given(WANTED, st.integers(0, 1000))
def test_all_room_is_shared_out_and_nobody_is_left_out(wanted: dict[int, int], room: int) -> None:
    found = shares(wanted, room)

    assert sum(found.values()) == min(room, sum(wanted.values()))
    assert all(found[key] <= wanted[key] for key in wanted)
    evenly = room // 2 // len(wanted)
    assert all(found[key] >= min(wanted[key], evenly) for key in wanted)
    least = min(wanted.values())
    assert any(found[key] >= min(least, room // 2) for key in wanted if wanted[key] == least)


class Batch:
    """Drafters that are told of each step in turn."""

    def __init__(self) -> None:
        self.budget = IndexBudget(least_tokens=256)
        self.drafters: list[CopyDrafter] = []

    def begin(self, num_tokens: int) -> CopyDrafter:
        drafter = CopyDrafter(range(num_tokens), self.budget)
        self.drafters.append(drafter)
        return drafter

    def step(self, drafters: Sequence[CopyDrafter] | None = None) -> None:
        self.budget.begin_step(0.0)
        for each in self.drafters if drafters is None else drafters:
            each.observe(Verdict([0]))


def test_short_prompt_does_not_wait_for_a_long_one() -> None:
    batch = Batch()
    batch.begin(LONG)
    for _ in range(12):  # the long one is at its last and largest piece
        batch.step()

    for _ in range(5):
        short = batch.begin(250)
        for _ in range(3):  # in one of eight nobody indexes
            batch.step()
        assert short.num_wanted == 0


def test_long_prompt_is_indexed_though_short_ones_keep_coming() -> None:
    batch = Batch()
    long = batch.begin(LONG)
    for step in range(400):
        if step % 2:
            batch.begin(250)
        batch.step()
        del batch.drafters[1:-4]

    assert long.num_wanted == 0
    assert long.num_indexed == LONG + 400


def test_share_of_who_is_preempted_goes_to_the_others() -> None:
    batch = Batch()
    waiting, other = batch.begin(100), batch.begin(LONG)
    for _ in range(4):
        batch.step([other])
    held = other.num_indexed
    batch.step([other])
    assert other.num_indexed - held == 256 + 1

    batch.step([other, waiting])  # it is back
    batch.step([other, waiting])
    assert waiting.num_wanted == 0
