"""What a request asks for, as its extra arguments say it."""

from typing import Any

import pytest

from headstart.stages.wish import Wish, wish_arguments


@pytest.mark.parametrize(
    ("arguments", "wish"),
    [
        (None, Wish("copy")),
        ({"other": 1}, Wish("copy")),
        ({"headstart_speculation": "off"}, Wish("off")),
        (
            {"headstart_speculation": "drafter", "headstart_language": "de"},
            Wish("drafter", "de"),
        ),
        ({"headstart_speculation": "bogus", "headstart_language": 3}, Wish("copy")),
        ({"headstart_speculation": ["auto"]}, Wish("copy")),
        ({"headstart_speculation": "model"}, Wish("copy")),  # which no request can choose
    ],
)
def test_wish(arguments: dict[str, Any] | None, wish: Wish) -> None:
    assert Wish.of(arguments, "copy") == wish


def test_wish_travels() -> None:
    assert wish_arguments() == {}
    assert Wish.of(wish_arguments("jacobi"), "copy") == Wish("jacobi")
    assert Wish.of(wish_arguments(language="de"), "copy") == Wish("copy", "de")
