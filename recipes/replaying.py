"""What a drafter would have gained on answers that are known: no engine, and little work.

A greedy draft is accepted as far as it is the answer: so it is at temperature 0, and so it is above
it, where rejection sampling accepts a token that was drafted for certain exactly when the target
draws that token. Replaying answers that the target drew at a temperature therefore counts what
drafting at that temperature would have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.stages.drafting import Proposer, Verdict

__all__ = ["Replayed", "replay", "replay_hits"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One or more answers, the first token of each left out: prefill gives it."""

    tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0

    def __add__(self, other: "Replayed") -> "Replayed":
        return Replayed(
            self.tokens + other.tokens,
            self.steps + other.steps,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
        )

    @property
    def accepted_length(self) -> float | None:
        """Tokens a step, the one that is the target's own included: 1.0 is no gain."""
        return self.tokens / self.steps if self.steps else None

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that were right."""
        return self.accepted / self.drafted if self.drafted else None


def replay(proposer: Proposer, answer: Sequence[int], max_tokens: int) -> Replayed:
    """Let a proposer draft an answer.

    Args:
        proposer: Knows the prompt and the answer's first token.
        max_tokens: Most in a draft.
    """
    at, steps, drafted, accepted = 1, 0, 0, 0
    while at < len(answer):
        draft = proposer.draft(min(max_tokens, len(answer) - at))
        tokens = list(draft.tokens) if draft is not None else []
        right = 0
        while right < len(tokens) and at + right < len(answer):
            if tokens[right] != answer[at + right]:
                break
            right += 1
        gained = answer[at : at + right + 1]
        proposer.observe(Verdict(gained, tokens))
        steps += 1
        drafted += len(tokens)
        accepted += right
        at += len(gained)
    return Replayed(max(0, len(answer) - 1), steps, drafted, accepted)


def replay_hits(said: Sequence[int], answer: Sequence[int], max_tokens: int) -> Replayed:
    """Replay a drafter that always drafts `max_tokens`, from what it says behind the right tokens.

    What it says behind wrong ones does not matter: they are rejected, and all after them.

    Args:
        said: For each token of the answer, what it says in its place.
    """
    at, steps, drafted, accepted = 1, 0, 0, 0
    while at < len(answer):
        offered = min(max_tokens, len(answer) - at)
        right = 0
        while right < offered and said[at + right] == answer[at + right]:
            right += 1
        steps += 1
        drafted += offered
        accepted += right
        at += right + 1
    return Replayed(max(0, len(answer) - 1), steps, drafted, accepted)
