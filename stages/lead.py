"""Nobody pays for others: by how much an answer is ahead of plain decoding in the same company."""

__all__ = ["Lead"]

_SLOWED_TOKENS = 32
"""A request may be slowed as if its answer had at least so many tokens."""


class Lead:
    """Of one request, whose neighbours may make its steps longer than it has anything of."""

    __slots__ = ("num_tokens", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """Negative where it is behind."""
        self.num_tokens = 0
        """Of the answer, since it was taken up."""

    def step(self, num_tokens: int, plain_s: float, taken_s: float) -> None:
        """Note a step.

        Args:
            num_tokens: What it gave the request.
            plain_s: What a step of the same batch takes without drafts, for one token.
            taken_s: What it took, with proposing.
        """
        self.num_tokens += num_tokens
        self.seconds += num_tokens * plain_s - taken_s

    def slack_s(self, plain_s: float, max_slowdown: float) -> float:
        """Return by how much the request may fall behind in the next step.

        Args:
            max_slowdown: By what share of its time it may be behind in all.
        """
        return self.seconds + max_slowdown * plain_s * max(self.num_tokens, _SLOWED_TOKENS)
