"""Token ids reach the log once each, on a frame of their own choice."""

from collections import defaultdict
from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.sse import EventParser
from tests.stages.chunks import Delta, chat_choice, completion_choice, payload


class Unframed:
    """The tokens that an engine has yielded and no frame has carried, as the tap keeps them."""

    def __init__(self) -> None:
        self._ids = count()
        self.yielded: defaultdict[int, list[int]] = defaultdict(list)
        self.waiting: defaultdict[int, list[int]] = defaultdict(list)

    def step(self, choice: int, num_tokens: int) -> None:
        for _ in range(num_tokens):
            token = next(self._ids)
            self.yielded[choice].append(token)
            self.waiting[choice].append(token)

    def take(self, choice: int) -> tuple[int, ...]:
        return tuple(self.waiting.pop(choice, ()))


DELTAS: dict[str, Callable[[int], bytes]] = {
    "content": lambda choice: payload(chat_choice(Delta(content="a"), choice)),
    "reasoning": lambda choice: payload(chat_choice(Delta(reasoning="a"), choice)),
    "tool": lambda choice: payload(chat_choice(Delta(tool_calls=[{"index": 0}]), choice)),
    "completion": lambda choice: payload(completion_choice("a", choice)),
    "finish": lambda choice: payload(chat_choice(Delta(), choice, finish_reason="stop")),
    "several": lambda choice: payload(
        chat_choice(Delta(content="a"), choice), chat_choice(Delta(content="b"), (choice + 1) % 3)
    ),
    "role and text": lambda choice: payload(
        chat_choice(Delta(role="assistant", content="a"), choice)
    ),
}
OTHERS: dict[str, Callable[[int], bytes]] = {
    "role": lambda choice: payload(chat_choice(Delta(role="assistant", content=""), choice)),
    "usage": lambda choice: payload(usage={"total_tokens": 1}),
    "no JSON": lambda choice: b"oops",
}

steps = st.tuples(st.sampled_from([*DELTAS, *OTHERS]), st.integers(0, 2), st.integers(0, 3))


@given(st.lists(steps))
def test_each_token_is_on_one_frame_of_its_choice(answer: list[tuple[str, int, int]]) -> None:
    parser, unframed = EventParser("chat", 200, "text/event-stream"), Unframed()
    framed: defaultdict[int, list[int]] = defaultdict(list)
    for kind, choice, num_tokens in answer:
        unframed.step(choice, num_tokens)
        frame = parser.parse((DELTAS | OTHERS)[kind](choice), unframed.take, at_us=1)
        if kind in OTHERS:
            assert frame.tokens == ()
        else:
            assert frame.choice == choice
            assert not unframed.waiting[choice]
        framed[frame.choice].extend(frame.tokens)

    for choice, tokens in unframed.yielded.items():
        assert framed[choice] + unframed.waiting[choice] == tokens
