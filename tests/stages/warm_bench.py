"""A machine that warms, the replica it believes in, and a clock."""

from dataclasses import dataclass, field

from headstart.stages.prompt_document import EditError, PromptDocument
from headstart.stages.stable_prefix import boundary, common_length, continuations
from headstart.stages.warm_budget import PrefillSpeed, TokenBudget
from headstart.stages.warm_events import (
    Abort,
    Drop,
    Edited,
    Planned,
    Render,
    RenderFailed,
    Rendering,
    Restarted,
    SliceFailed,
    SliceStarved,
    Warm,
    WarmAction,
    Warmed,
    WarmEvent,
    Why,
)
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmLimits, WarmPolicy

BLOCK, SLICE_S, SPEED = 4, 0.1, 100.0
RENDER_S, STEP_S = 0.004, 0.01
HEAD, TAIL = [1, 2, 3, 4, 5, 6], [7, 8]


def render(text: str) -> list[int]:
    """Every word is a token, and so is every mark of what encloses the text."""
    return [*HEAD, *(100 + sum(map(ord, word)) for word in text.split()), *TAIL]


@dataclass
class Bench:
    """A machine, the replica it believes in, and a clock."""

    budget: TokenBudget = field(default_factory=TokenBudget)
    now: float = 1000.0
    cache: set[tuple[int, ...]] = field(default_factory=set)
    slices: list[tuple[float, list[int]]] = field(default_factory=list)
    computed: int = 0
    aborts: list[Why] = field(default_factory=list)
    num_renders: int = 0
    num_starved: int = 0
    is_lost: bool = False
    render_s: float = RENDER_S
    turn_s: float = 0.0
    """That a rendering waits for its turn before the text is taken."""
    context: int = 1 << 20
    """Most tokens of a prompt."""

    def __post_init__(self) -> None:
        self.document = PromptDocument(10_000)
        self.ledger = WarmLedger(self.budget)
        self.speed = PrefillSpeed(BLOCK, SLICE_S)
        self.policy = WarmPolicy(WarmLimits(), self.speed, self.ledger)
        self._rendering: tuple[float, str | None] | None = None
        """When it ends, and the text; or when its turn comes."""
        self._warming: tuple[float, list[int]] | None = None
        self._do(self.policy.expire(self.now))

    def feed(self, event: WarmEvent) -> None:
        self._do(self.policy.feed(event, self.now))

    def type(self, text: str) -> None:
        self.edit(len(self.document.text), len(self.document.text), text)

    def edit(self, start: int, end: int, text: str) -> None:
        edit = self.document.replace(start, end, text)
        assert not isinstance(edit, EditError)
        cut = boundary(self.document.text, since=edit.start).cut
        self.feed(Edited(edit.start, len(self.document.text), cut, edit.is_append))

    def clear(self) -> None:
        """Begin another text."""
        self.document.clear()
        self.feed(Restarted())

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        for _ in range(100_000):
            due = self.policy.deadline()
            times = [one[0] for one in (self._rendering, self._warming) if one is not None]
            times += [] if due is None else [due]
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            if self._rendering is not None and self._rendering[0] <= self.now:
                self._rendered()
            elif self._warming is not None and self._warming[0] <= self.now:
                self._warmed()
            else:
                self._do(self.policy.expire(self.now))
        raise AssertionError("the machine goes round in circles")

    def num_cached(self, tokens: list[int]) -> int:
        length = 0
        while length + BLOCK <= len(tokens) and tuple(tokens[: length + BLOCK]) in self.cache:
            length += BLOCK
        return length

    @property
    def whole(self) -> int:
        """Tokens in the whole blocks that can be computed ahead."""
        return len(self.stable) // BLOCK * BLOCK

    def forget(self) -> None:
        """Give all blocks to other requests."""
        self.cache.clear()

    @property
    def stable(self) -> list[int]:
        text = self.document.text
        whole = render(text)
        others = [render(other) for other in continuations(text, boundary(text))]
        return whole[: common_length(whole, *others)]

    def _take(self) -> None:
        self._rendering = self.now + self.render_s, self.document.text
        self.feed(Rendering())

    def _rendered(self) -> None:
        assert self._rendering is not None
        text, self._rendering = self._rendering[1], None
        if text is None:
            self._take()
            return
        if self.is_lost:
            self.feed(RenderFailed())
            return
        at = boundary(text)
        whole = render(text)
        if len(whole) > self.context:
            self.feed(RenderFailed(is_final=True, is_too_long=True))
            return
        others = [render(other) for other in continuations(text, at)]
        self.feed(Planned(whole[: common_length(whole, *others)], at))

    def _warmed(self) -> None:
        assert self._warming is not None
        tokens, self._warming = self._warming[1], None
        if self.is_lost:
            self.feed(SliceFailed())
            return
        cached = self.num_cached(tokens)
        self.computed += len(tokens) - 1 - cached
        self.cache |= {tuple(tokens[:end]) for end in range(BLOCK, len(tokens) + 1, BLOCK)}
        self.feed(Warmed(cached, STEP_S + (len(tokens) - cached) / SPEED))

    def _do(self, actions: list[WarmAction]) -> None:
        for action in actions:
            match action:
                case Render():
                    assert self._rendering is None
                    self.num_renders += 1
                    self._rendering = self.now + self.turn_s, None
                    if not self.turn_s:
                        self._take()
                case Drop():
                    assert self._rendering is not None
                    self._rendering = None
                case Warm(tokens):
                    assert self._warming is None
                    assert tokens
                    assert len(tokens) % BLOCK == 1
                    assert render(self.document.text)[: len(tokens) - 1] == tokens[:-1]
                    missing = len(tokens) - self.num_cached(tokens)
                    self.slices.append((self.now, tokens))
                    self._warming = (self.now + STEP_S + missing / SPEED, tokens)
                case Abort(why):
                    assert self._warming is not None
                    self._warming = None
                    self.aborts.append(why)
                case SliceStarved():
                    self.num_starved += 1
