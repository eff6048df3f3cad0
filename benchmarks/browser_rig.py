"""Link, gateway and browser of a run, and one round of answers in its pages."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeVar

import msgspec

from headstart.benchmarks.browser_cells import (
    MODELS,
    SHORT,
    TOKENS_PER_S,
    BrowserSample,
    Part,
    part_of,
)
from headstart.benchmarks.browser_orders import Arm, Ask, Drawn, Launch, Open, Shut
from headstart.benchmarks.link_flows import Others
from headstart.benchmarks.lossy_link import Begin, Crossed, Tell
from headstart.benchmarks.socket_ends import Ends
from headstart.benchmarks.socket_orders import Made
from headstart.benchmarks.stall_metrics import stall_s, waiting_share
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["BrowserRig", "Round", "Seen"]

Reply = TypeVar("Reply")

_START_S = 0.3
"""Between the last order and the question."""
_TYPING_RTTS = 5
"""For which a question is typed: a page whose session has ended since opens another meanwhile."""
_NEAR_S = 0.005
"""One way, while pages are loaded: that is not what is measured."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer, as a reader of its page saw it; all in seconds."""

    first_s: float
    """From the question to the first visible text."""
    gaps_s: Sequence[float]
    """Between two moments at which more could be seen."""
    steps: Sequence[tuple[float, int, int]]
    """Time since the question, tokens made, tokens visible: at each such moment."""
    stall: float
    """Share of the answer's time in which a token was due for 100 ms and not on the screen."""
    paper_stall: float
    ended_s: float
    """From the weather's beginning, when the question was due, to the last visible text."""
    climbed_s: float | None
    """From the question until nothing but datagrams carried it."""
    is_done: bool
    is_exact: bool
    """Whether what the page shows is what the engine wrote."""
    longest_frame_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """One answer in each page of an arm, all at once."""

    seen: Sequence[Seen]
    bytes_per_token: float
    up_bytes_per_token: float
    loss: float
    """Share of downward packets that were lost."""
    late_p99_s: float
    others_cores: float


class BrowserRig(Ends):
    """Everything that runs, with a browser for a reader. A context manager."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        own = settings.model_copy(update={"models": MODELS})
        pages = "headstart.benchmarks.browser_pages"
        super().__init__(own, own.models, folder, pages, ("snapshots",))

    def launch(self) -> str:
        """Start the browser; its name and version.

        Raises:
            SetupError: There is no lossy path for TCP here.
        """
        if self.standing.kind != "tun":
            raise SetupError(
                "`headstart bench browser` sends TCP through a lossy path, which takes root and "
                f"TUN devices: {self.standing.why}"
            )
        door = self.gateways.doors[0]
        self.url = f"http://{door.host}:{door.port}/"
        self.calm(_NEAR_S)
        return self.ask_readers(Launch(self.url.rstrip("/")), str)

    def calm(self, one_way_s: float) -> None:
        """From now on nothing is lost."""
        self.order(Begin([], one_way_s), bool)

    def open(self, arm: Arm, count: int, *, is_warm: bool = True) -> None:
        """Open an arm's pages anew, over a link that is near and loses nothing."""
        self.calm(_NEAR_S)
        model = SHORT.name if is_warm else None
        self.ask_readers(Open(arm, self.url, count, model), int)

    def shut(self, arm: Arm) -> None:
        """Close them."""
        self.ask_readers(Shut(arm), bool)

    def round(
        self,
        part: Part,
        arm: Arm,
        sample: BrowserSample,
        number: int,
        model: ModelSettings,
        reload_after_s: Sequence[float] = (),
        *,
        is_typed: bool = True,
    ) -> Round:
        """Read one answer in each open page of an arm."""
        assert model.fake is not None
        one_way_s = part_of(part).cell.rtt_s / 2
        self.calm(one_way_s)
        at = time.monotonic() + _START_S + is_typed * _TYPING_RTTS * 2 * one_way_s
        seed = sample.seed(part, number)
        self.order(Begin([], one_way_s, Others(part.value, seed, at)), bool)
        others_cores = self.others_cores()
        span_s = model.fake.answer_tokens / TOKENS_PER_S + sample.patience_s
        prompt = seed % 100_000
        ask = Ask(arm, model.name, at, span_s, prompt, is_typed, list(reload_after_s))
        drawn = self.ask_readers(ask, list[Drawn])
        others = others_cores()
        crossed = self.order(Tell(), Crossed)
        self.calm(one_way_s)
        made = self.gateways.made([each.id for each in drawn])
        num_tokens = sum(len(each.at) for each in made) or 1
        num_packets = sum(each.down_packets for each in crossed.flows) or 1
        return Round(
            [
                _seen(one, when, one_way_s, at, at + span_s)
                for one, when in zip(drawn, made, strict=True)
            ],
            sum(each.down_bytes for each in crossed.flows) / num_tokens,
            sum(each.up_bytes for each in crossed.flows) / num_tokens,
            sum(each.down_lost for each in crossed.flows) / num_packets,
            crossed.late_p99_s,
            others,
        )

    def ask_readers(self, order: msgspec.Struct, reply: type[Reply]) -> Reply:
        """Give the browser an order and wait for its answer."""
        self.tell_readers(order)
        return self.hear_readers(reply)


def _seen(drawn: Drawn, made: Made, one_way_s: float, epoch: float, given_up: float) -> Seen:
    """Score an answer; what was never drawn counts as drawn when it was given up."""
    ends = list(accumulate(_units(text) for text in made.texts))
    at, lengths = list(drawn.at), list(drawn.lengths)
    if not drawn.is_done:
        at.append(max([given_up, *at, *made.at]))
        lengths.append(ends[-1] if ends else 1)
    last = len(at) - 1
    rendered = [at[min(bisect_left(lengths, end), last)] for end in ends]
    span_s = rendered[-1] - made.at[0] if rendered else 0.0
    whole = "".join(made.texts)
    return Seen(
        at[0] - drawn.asked_at,
        [after - before for before, after in pairwise(at)],
        [
            (now - drawn.asked_at, bisect_right(made.at, now), bisect_right(ends, length))
            for now, length in zip(at, lengths, strict=True)
        ],
        stall_s(made.at, rendered, one_way_s) / span_s if span_s else 1.0,
        waiting_share(rendered) if rendered else 1.0,
        at[-1] - epoch,
        None if drawn.climbed_at is None else drawn.climbed_at - drawn.asked_at,
        drawn.is_done,
        drawn.text == whole if drawn.is_done else whole.startswith(drawn.text),
        drawn.longest_frame_s,
    )


def _units(text: str) -> int:
    """Its length as a page counts."""
    return len(text.encode("utf-16-le")) // 2
