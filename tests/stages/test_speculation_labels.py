"""What is counted apart, and what together."""

import pytest

from headstart.stages.speculation_labels import Position, counted_as


@pytest.mark.parametrize(
    ("language", "counted"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("DE", "de"),
        ("pt-BR", "pt-BR"),
        ("pt", "other"),
        ("xx", "other"),
        (None, "none"),
    ],
)
def test_only_declared_languages_are_counted_one_by_one(language: str | None, counted: str) -> None:
    assert counted_as(language, {"de", "pt-BR"}) == counted


def test_positions_cover_every_draft() -> None:
    found = [Position.of(index) for index in range(64)]

    assert found[:4] == [Position.FIRST, Position.SECOND, Position.THIRD, Position.FOURTH]
    assert found[4:8] == 4 * [Position.FROM_5]
    assert found[8:16] == 8 * [Position.FROM_9]
    assert set(found[16:]) == {Position.FROM_17}
