"""docs/results/decoding.md: several tokens a step beside vLLM's own, from the benchmark's JSON.

Every figure on the page is put there by this code. What is missing is said to be missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean

from headstart.benchmarks.results_charts import speeds, verifying
from headstart.benchmarks.results_data import DECODING, Results, Row, rows_of
from headstart.benchmarks.results_page import Section, age, bars, sources, verdicts, write
from headstart.benchmarks.results_text import folded, number, percent, plain, table

__all__ = ["run"]

HEAD = """\
# What several tokens a step are worth

Made by `headstart results decoding --from docs/results/data`, figures and plots alike: do not edit.
The same prompts go to vLLM as it comes, to vLLM's own n-gram drafts, and to Headstart's worker:
same weights, same cores, one engine at a time. [decoding.md](../decoding.md) says how it works, and
[LOG.md](../../benchmarks/LOG.md) what each run found.
"""
SPEEDS_TEXT = """\
`over_plain` has the prompt in it, as who waits for a whole answer has; `decode_over_plain` begins
with first tokens, and by it is judged whether a lane is no slower. Answers that loop (the
last 64 tokens with a period of at most 16) are left out, as they would flatter every drafter; they
have a table of their own below.
"""
VERIFYING_TEXT = """\
Left: what a step costs by the tokens that it verifies, one request. Right: drafts that are right by
construction, so that only our plumbing is between what is possible (tokens per step over the step's
cost) and what is measured.
"""
_SPEEDS, _COSTS, _REPLAYS = "Speed on answers", "Cost of verifying", "Replayed drafts"
_ANSWERS = "Answers in float32 beside the plain engine's"
_DRAWN = ("plain", "vllm ngram", "copy", "auto")
"""Lanes of the plot; the table has all."""


def run(source: Path, target: Path) -> int:
    """Write the page, its plots and what they are made of.

    Args:
        source: Folder with results.
        target: Folder of the page.

    Raises:
        SetupError: There is no result in `source`.
    """
    return write(DECODING, SECTIONS, source, target)


def _in_a_minute(found: Results, _target: Path) -> Iterator[str]:
    yield from (HEAD, "## In a minute", "", age(found))
    yield from _by_load(_rows(found, _SPEEDS))
    if replays := _rows(found, _REPLAYS):
        least = min(number(row["of_what_is_possible"]) for row in replays)
        yield f"- **Plumbing**: at least {percent(least)} of what right drafts could gain."
    if compared := _rows(found, _ANSWERS):
        num, same = (
            sum(int(number(row[each])) for row in compared) for each in ("answers", "same")
        )
        yield f"- **Exactness**: {same} of {num} answers in float32 are plain vLLM's."
    yield from (verdicts(found), "")


def _by_load(rows: Sequence[Row]) -> Iterator[str]:
    """Tell the geometric mean of all sets, of each lane that has a part in all of them."""
    for size in dict.fromkeys(row["concurrency"] for row in rows):
        lanes: dict[str, dict[str, float]] = {}
        for row in rows:
            if row["concurrency"] == size:
                lanes.setdefault(str(row["lane"]), {})[str(row["task"])] = number(row["over_plain"])
        ratios = lanes.pop("plain", {})
        said = [
            f"{lane} {plain(geometric_mean(by_set.values()))}"
            f" ({' to '.join(f'{plain(by_set[each])} {each}' for each in _ends(by_set))})"
            for lane, by_set in lanes.items()
            if by_set.keys() == ratios.keys()
        ]
        if said:
            yield (
                f"- **{size} at once**: times the speed of plain vLLM, mean of {len(ratios)} sets "
                f"(lowest to highest): {', '.join(said)}."
            )


def _ends(by_set: Mapping[str, float]) -> tuple[str, str]:
    """Names of the sets with the lowest and the highest value."""
    return min(by_set, key=by_set.__getitem__), max(by_set, key=by_set.__getitem__)


def _speeds(found: Results, target: Path) -> Iterator[str]:
    yield from ("## Speed by task and load", "")
    rows = _rows(found, _SPEEDS)
    drawn = [row for row in rows if row["lane"] in _DRAWN]
    if not speeds(drawn, target / "decoding-speeds.svg"):
        yield from ("Not measured.", "")
        return
    yield from ("![Speed over plain vLLM by task and load](decoding-speeds.svg)", "", SPEEDS_TEXT)
    yield from table(rows)
    yield ""


def _verifying(found: Results, target: Path) -> Iterator[str]:
    yield from ("## What verifying costs", "")
    costs, replays = _rows(found, _COSTS), _rows(found, _REPLAYS)
    if not verifying(costs, replays, target / "decoding-verifying.svg"):
        yield from ("Not measured.", "")
        return
    yield from ("![Cost of a step, and gain of right drafts](decoding-verifying.svg)", "")
    yield VERIFYING_TEXT


def _rest(found: Results, _target: Path) -> Iterator[str]:
    yield from ("## All else", "")
    for result in found.values():
        for title in result.titles:
            rows = result.rows(title)
            if rows and not title.startswith(_SPEEDS):
                yield from folded(title, table(rows))


def _rows(found: Results, title: str) -> list[Row]:
    """A table's rows, of the whole benchmark's result or of the part's that has it."""
    return next((rows for name in found if (rows := rows_of(found, name, title))), [])


SECTIONS: tuple[Section, ...] = (_in_a_minute, _speeds, _verifying, _rest, bars, sources)
