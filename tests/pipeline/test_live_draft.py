"""The text of a live prompt takes what room it needs, and no more."""

import pytest

from headstart.pipeline.live_draft import LiveDraft
from headstart.pipeline.live_events import Append, Clear, Replace
from headstart.stages.errors import LiveRefused, Overloaded, RateLimited
from headstart.stages.shared_room import Share, SharedRoom


def test_text_that_takes_the_place_of_other_text_needs_no_room_beside_it() -> None:
    room = SharedRoom(200)
    draft = LiveDraft(1000, Share(room, "alice"))
    draft.edit(Append(text="x" * 100))  # all that one key may have

    for text in ("y" * 100, "z" * 99, "z" * 100):
        assert draft.edit(Replace(start=0, end=len(draft.text), text=text)) == 0
        assert (draft.text, room.free_bytes) == (text, 200 - len(text))
    with pytest.raises(RateLimited):
        draft.edit(Replace(start=10, end=20, text="y" * 11))
    assert (draft.text, draft.version, room.free_bytes) == ("z" * 100, 4, 100)
    draft.edit(Clear())
    assert room.free_bytes == 200


def test_what_is_refused_holds_nothing() -> None:
    room = SharedRoom(200)
    draft = LiveDraft(50, Share(room, owner=""))
    draft.edit(Append(text="x" * 20))

    for bad in (
        Replace(start=0, end=21, text=""),
        Replace(start=3, end=2, text="y" * 500),
        Append(text="y" * 31),
    ):
        with pytest.raises(LiveRefused):
            draft.edit(bad)
        assert (draft.text, draft.version, room.free_bytes) == ("x" * 20, 1, 180)
    room.take("", 170)
    with pytest.raises(Overloaded):
        draft.edit(Append(text="y" * 11))
    assert draft.edit(Replace(start=5, end=20, text="y" * 25)) == 5
    assert room.free_bytes == 0
