"""Totals, and what has come on top of them."""

import msgspec

from headstart.stages.speculation_counts import Position, SourceCounts, SpeculationCounts


def test_difference_is_what_has_come_since() -> None:
    counts = SpeculationCounts(steps=1, rows=2, tokens=3, draft_s=0.5, fallbacks={"seed": 1})
    counts.sources["copy"] = SourceCounts()
    counts.sources["copy"].add(2, 1)
    before = msgspec.msgpack.decode(msgspec.msgpack.encode(counts), type=SpeculationCounts)
    assert before == counts

    counts.steps += 4
    counts.sources["copy"].add(3, 3)
    counts.sources["jacobi"] = SourceCounts()
    counts.fallbacks["raised"] = 2

    assert counts.since(before) == SpeculationCounts(
        steps=4,
        sources={"copy": SourceCounts(1, [1, 1, 1], [1, 1, 1]), "jacobi": SourceCounts()},
        fallbacks={"seed": 0, "raised": 2},
    )
    assert counts.since(SpeculationCounts()) == counts


def test_positions_cover_every_draft() -> None:
    found = [Position.of(index) for index in range(64)]

    assert found[:4] == [Position.FIRST, Position.SECOND, Position.THIRD, Position.FOURTH]
    assert found[4:8] == 4 * [Position.FROM_5]
    assert found[8:16] == 8 * [Position.FROM_9]
    assert set(found[16:]) == {Position.FROM_17}
