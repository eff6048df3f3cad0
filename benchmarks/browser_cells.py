"""How much is measured in a browser, and on what paths."""

from dataclasses import dataclass
from enum import StrEnum

from headstart.benchmarks.socket_cells import SocketSample, settings
from headstart.benchmarks.socket_orders import model
from headstart.benchmarks.transport_grid import SCORING_SEEDS, TUNING_SEEDS, Setting

__all__ = [
    "FAST",
    "HALF",
    "MODELS",
    "PACED",
    "SHORT",
    "TOKENS_PER_S",
    "BrowserSample",
    "Part",
    "part_of",
]

TOKENS_PER_S = 50.0
PACED = model("paced", TOKENS_PER_S, 200)
"""Four seconds of text."""
SHORT = model("short", TOKENS_PER_S, 10)
HALF = model("half", TOKENS_PER_S, 100)
FAST = model("fast", 1_000.0, 100)
MODELS = (PACED, SHORT, HALF, FAST)
_APART = 600_000_000
"""From the other parts' seeds, which are below; a flow has one of its own."""


class Part(StrEnum):
    """What is asked of the pages; values are names of cells of the real link."""

    PAUSES = "random 10 %, RTT 100 ms"
    HARD = "random 20 %, RTT 300 ms"
    CLEAN = "no loss, RTT 100 ms"
    DARK = "dark for 5 s, RTT 100 ms"


@dataclass(frozen=True, slots=True)
class BrowserSample:
    """How much is measured."""

    seed_base: int
    num_pages: int
    """Of an arm, each of which reads one answer at a time."""
    rounds: dict[Part, int]
    """A round is one answer in each page, of either arm after the other."""
    num_fresh: int
    """Rounds in pages that have read nothing before."""
    num_reloads: int
    """Rounds in which every page is loaded again, twice."""
    num_weighed: int
    """Answers of either arm whose cost on the main thread is measured."""
    num_stayed: int
    """Answers that one page reads: one a minute for eight hours in a full run."""
    most_tries: int
    """Of a round in which the machine stalled."""
    patience_s: float
    """Beyond an answer's own time."""

    @classmethod
    def full(cls) -> "BrowserSample":
        """Everything, on seeds that nothing was tuned on."""
        rounds = {Part.PAUSES: 20, Part.HARD: 9, Part.CLEAN: 20, Part.DARK: 3}
        return cls(SCORING_SEEDS + _APART, 5, rounds, 2, 5, 8, 480, 3, 12.0)

    @classmethod
    def quick(cls) -> "BrowserSample":
        """A few rounds of each."""
        rounds = {Part.PAUSES: 4, Part.HARD: 3, Part.CLEAN: 8, Part.DARK: 1}
        return cls(TUNING_SEEDS + _APART, 4, rounds, 1, 1, 3, 100, 1, 12.0)

    def seed(self, part: Part, number: int) -> int:
        """Of the first flow of a round."""
        return self.seed_base + 1_000_000 * list(Part).index(part) + 100 * number


def part_of(part: Part) -> Setting:
    """Its cell."""
    (found,) = (each for each in settings(SocketSample.full()) if each.name == part.value)
    return found
