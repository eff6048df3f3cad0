"""Totals, and what has come on top of them."""

import msgspec

from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts


def test_difference_is_what_has_come_since() -> None:
    german = LanguageCounts(rows=2, tokens=3, sources={"copy": SourceCounts()})
    counts = SpeculationCounts(
        plain_steps=1, draft_s=0.5, languages={"de": german}, fallbacks={"seed": 1}
    )
    german.sources["copy"].add(2, 1, 0)
    before = msgspec.msgpack.decode(msgspec.msgpack.encode(counts), type=SpeculationCounts)
    assert before == counts

    counts.verify_steps += 4
    german.tokens += 5
    german.sources["copy"].add(3, 3, 2)
    german.sources["jacobi"] = SourceCounts()
    counts.languages["none"] = LanguageCounts(1, 1)
    counts.fallbacks["raised"] = 2
    counts.decisions["draft"] = 4

    copied = SourceCounts(1, [1, 1, 1], [1, 1, 1], [0, 0, 1], [0, 0, 3])
    assert counts.since(before) == SpeculationCounts(
        verify_steps=4,
        languages={
            "de": LanguageCounts(0, 5, {"copy": copied, "jacobi": SourceCounts()}),
            "none": LanguageCounts(1, 1),
        },
        fallbacks={"seed": 0, "raised": 2},
        decisions={"draft": 4},
    )
    assert counts.since(SpeculationCounts()) == counts


def test_totals_are_of_all_languages() -> None:
    counts = SpeculationCounts(
        languages={
            "de": LanguageCounts(2, 5, {"copy": SourceCounts(1, [1, 1], [1, 0], [1], [1])}),
            "none": LanguageCounts(
                1,
                1,
                {
                    "copy": SourceCounts(2, [2], [1], [0, 2], [0, 1]),
                    "jacobi": SourceCounts(1, [1], [0]),
                },
            ),
        }
    )

    assert (counts.rows, counts.tokens) == (3, 6)
    assert counts.sources == {
        "copy": SourceCounts(3, [3, 1], [2, 0], [1, 2], [1, 1]),
        "jacobi": SourceCounts(1, [1], [0]),
    }
