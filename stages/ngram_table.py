"""What usually comes next in one language: a table of n-grams, made from a model's own answers.

The lightest of drafters: the last tokens are looked up, longest context first, and the most
frequent follower is drafted, then looked up again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from headstart.stages.drafting import Draft, Verdict
from headstart.stages.errors import SetupError

__all__ = ["NgramTable", "TableDrafter", "build"]

FORMAT_VERSION = 2

_NOTHING = (0, -1)
_ROOM = 3
"""Contexts kept while counting for each that the table may hold: the rest is too rare to stay."""


class NgramTable(msgspec.Struct, frozen=True):
    """Contexts of one language and what follows them most often."""

    language: str
    """BCP 47 tag of the input that the answers were given to."""
    vocabulary: int
    """Size of the vocabulary that the ids are of."""
    tokenizer: str
    """Hash of what its ids stand for."""
    order: int
    """Longest context, in tokens."""
    followers: dict[str, tuple[int, int]]
    """Context, as ids joined by blanks, to the follower and how sure it is, in percent."""
    learned_tokens: int = 0
    """Of the answers that it was counted from; 0 is none, or not known."""
    learned_prompts: bytes = b""
    """Of the prompts that these answer, digests, one behind the other."""
    version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        """Return the table as a file's content."""
        return _encoder.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "NgramTable":
        """Read what `encode` wrote.

        Raises:
            SetupError: It is no table, of another format, or has followers that are no tokens.
        """
        try:
            version = _head_decoder.decode(data).version
            if version == FORMAT_VERSION:
                return _with_tokens_alone(_decoder.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SetupError(f"not an n-gram table ({error}): build it again") from error
        raise SetupError(
            f"an n-gram table of format {version}, not {FORMAT_VERSION}: build it again"
        )


class _Head(msgspec.Struct):
    """What tables of all formats have."""

    version: int


def _with_tokens_alone(table: NgramTable) -> NgramTable:
    if all(0 <= token < table.vocabulary for token, _ in table.followers.values()):
        return table
    raise SetupError(
        f"an n-gram table with followers that are none of its {table.vocabulary} tokens: "
        "build it again"
    )


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(_Head)
_decoder = msgspec.msgpack.Decoder(NgramTable)


def build(
    answers: Iterable[Sequence[int]],
    *,
    language: str,
    vocabulary: int,
    tokenizer: str,
    order: int = 3,
    max_contexts: int = 200_000,
    min_count: int = 2,
) -> NgramTable:
    """Count the n-grams of answers.

    Args:
        answers: Token ids of each.
        tokenizer: Hash of what the ids stand for.
        max_contexts: Most that the table holds; the most frequent stay.
        min_count: How often a context and its follower must have been seen.
    """
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    learned_tokens = 0
    for answer in answers:
        learned_tokens += len(answer)
        for end in range(1, len(answer)):
            for length in range(1, min(order, end) + 1):
                counts[_key(answer[end - length : end])][answer[end]] += 1
        if len(counts) > _ROOM * max_contexts:
            _forget_rare(counts, max_contexts)
    best = {context: each.most_common(1)[0] for context, each in counts.items()}
    kept = sorted(
        (context for context, (_, count) in best.items() if count >= min_count),
        key=lambda context: (-best[context][1], context),
    )[:max_contexts]
    followers = {
        context: (best[context][0], 100 * best[context][1] // counts[context].total())
        for context in kept
    }
    return NgramTable(language, vocabulary, tokenizer, order, followers, learned_tokens)


def _forget_rare(counts: defaultdict[str, Counter[int]], max_contexts: int) -> None:
    ranked = sorted(counts, key=lambda context: counts[context].total(), reverse=True)
    for context in ranked[max_contexts:]:
        del counts[context]


def _key(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


class TableDrafter:
    """Drafts one request from a table.

    Args:
        tokens: Prompt and answer so far.
        min_percent: How sure a follower must be to be drafted.
    """

    def __init__(self, table: NgramTable, tokens: Sequence[int], min_percent: int = 20) -> None:
        self._followers = table.followers
        self._order = table.order
        self._recent = list(tokens[-table.order :])
        self._min_percent = min_percent

    def observe(self, verdict: Verdict) -> None:
        self._recent = [*self._recent, *verdict.tokens][-self._order :]

    def draft(self, max_tokens: int) -> Draft | None:
        contexts, found = list[str](), list[int]()
        for token in self._recent:
            contexts = self._after(contexts, token)
        first = 0
        for _ in range(max_tokens):
            token, percent = self._follower(contexts)
            if percent < self._min_percent:
                break
            first = first or percent
            found.append(token)
            contexts = self._after(contexts, token)
        return Draft(found, first // 25) if found else None

    def _after(self, contexts: list[str], token: int) -> list[str]:
        """Return the contexts of a run that has become longer by a token: the last one, the last
        two and so on, as the table has them.
        """
        last = str(token)
        return [last, *[f"{context} {last}" for context in contexts[: self._order - 1]]]

    def _follower(self, contexts: list[str]) -> tuple[int, int]:
        """Return what follows most often, by the longest context there is, and how sure that is in
        percent; -1 where nothing is known.
        """
        for context in reversed(contexts):
            if (found := self._followers.get(context)) is not None:
                return found
        return _NOTHING
