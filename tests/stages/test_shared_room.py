"""Nobody takes all of what is shared, and what is given back is there again."""

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.shared_room import Share, SharedRoom

sizes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=60)


def filled(room: SharedRoom, owner: str) -> int:
    """Take byte by byte what `owner` can get."""
    return next(taken for taken in range(1 << 20) if not room.take(owner, 1))


def test_each_owner_leaves_half_of_what_it_finds() -> None:
    room = SharedRoom(800)

    assert [filled(room, owner) for owner in "abc"] == [400, 200, 100]


def test_who_shares_with_nobody_may_have_all() -> None:
    room = SharedRoom(800)

    assert filled(room, "") == 800


def test_one_that_is_too_large_takes_nothing() -> None:
    room = SharedRoom(800)

    assert not room.take("a", 401)
    assert not room.take("", 801)
    assert room.take("", 800)


@given(sizes)
def test_whoever_comes_new_finds_room_until_little_is_left(asked: list[tuple[str, int]]) -> None:
    room, held = SharedRoom(1000), 0
    for owner, size in asked:
        held += size * room.take(owner, size)

    assert held <= 875
    assert filled(room, "new") >= (1000 - held) // 2


@given(sizes)
def test_what_is_given_back_is_there_again(asked: list[tuple[str, int]]) -> None:
    room = SharedRoom(1000)
    taken = [(owner, size) for owner, size in asked if room.take(owner, size)]
    for owner, size in taken:
        room.give_back(owner, size)

    assert filled(room, "a") == 500


def test_a_share_grows_and_shrinks() -> None:
    room = SharedRoom(800)
    first, second = Share(room, "a"), Share(room, "a")

    assert first.hold(300)
    assert not second.hold(101)
    assert second.hold(100)
    assert not first.hold(301)
    assert first.hold(200)
    assert second.hold(200)
    assert first.hold(0)
    assert second.hold(0)
    assert room.free_bytes == 800


def test_each_may_have_one_as_long_as_there_is_one() -> None:
    room = SharedRoom(3)

    assert [filled(room, owner) for owner in "abcd"] == [1, 1, 1, 0]


def test_what_is_there_already_is_held_and_nobody_gets_more_before_it_is_given_back() -> None:
    room = SharedRoom(800)
    first, second = Share(room, "a"), Share(room, "b")
    assert not first.hold(900)

    first.account_for(900)

    assert room.free_bytes == -100
    assert not first.hold(901)
    assert not second.hold(1)
    assert not second.fits(1)
    assert first.hold(300)
    assert second.hold(1)
    assert first.fits(799)
    assert not first.fits(800)
    first.account_for(0)
    second.account_for(0)
    assert room.free_bytes == 800
