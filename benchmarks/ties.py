"""Where two greedy answers part: whether that is a proven tie (DESIGN §3.7)."""

from collections.abc import Mapping, Sequence

__all__ = ["TIE", "tie_gap"]

TIE = 1e-3
"""Two tokens whose logits differ by no more may change places."""


def tie_gap(
    said: Sequence[int],
    best: Sequence[Mapping[int, float]],
    plain: Sequence[int],
    other: Sequence[int],
) -> float | None:
    """Return the gap between the two best tokens where two answers part.

    Args:
        said: Ids of a plain answer of which more is known; that of `plain`, or asked for once more.
        best: At each of its places the two likeliest ids, with the logarithms of their chances.
        plain: The plain answer's ids.
        other: The other answer's, as many and not the same.

    Returns: None if that proves no tie: `said` goes another way than `plain`, or the tokens that
        the answers part with are not the two best.
    """
    pairs = enumerate(zip(plain, other, strict=True))
    at = next(index for index, (one, two) in pairs if one != two)
    if list(said[: at + 1]) != list(plain[: at + 1]):
        return None
    if best[at].keys() != {plain[at], other[at]}:
        return None
    return float(max(best[at].values()) - min(best[at].values()))
