"""docs/results/journey.md: the whole product beside `vllm serve`, from the benchmark's JSON.

Every figure on the page is put there by this code. What is missing is said to be missing.
"""

from collections.abc import Iterator
from pathlib import Path

from headstart.benchmarks.results_charts import growth, parts
from headstart.benchmarks.results_data import JOURNEY, Results, Row
from headstart.benchmarks.results_page import Section, age, bars, sources, verdicts, write
from headstart.benchmarks.results_text import folded, interval, number, percent, plain, table

__all__ = ["run"]

HEAD = """\
# From the last key to the text on the screen

Made by `headstart results journey --from docs/results/data`, figures and plots alike: do not edit.
Prompts of more than twenty sentences are typed, sent off and answered across a link that loses a
tenth of all packets each way at a round trip of 100 ms: by Headstart with live prompts, speculation
and datagrams, each on and off, and by `vllm serve` with the `openai` package's client on an event
stream over the kernel's TCP. Same weights, same engine arguments, same cores, one arm at a time.
"""
PARTS_TEXT = """\
Means. *Outside the server*: what its own clock does not see, which is the link, both kernels, the
client, and the gateway behind the engine.
"""
FEATURES_TEXT = """\
Times with a feature over times without it: beside all four states of the other two, with nothing
else on (*alone*), and with both others on (*beside the others*). Below 1 it helps.
"""
COSTS_TEXT = """\
Engine seconds are those of the request and of what was computed ahead for it; *waste* is tokens
computed ahead that the prompt did not find in the cache, for each token that it has. Stopped slices
count as waste in full, but their engine seconds are not known.
"""
_ALL, _NONE = "live + speculation + datagrams", "none of them"


def run(source: Path, target: Path) -> int:
    """Write the page, its plots and what they are made of.

    Args:
        source: Folder with results.
        target: Folder of the page.

    Raises:
        SetupError: There is no result in `source`.
    """
    return write(JOURNEY, SECTIONS, source, target)


def _in_a_minute(found: Results, _target: Path) -> Iterator[str]:
    result = found["journey"]
    yield from (HEAD, "## In a minute", "", age(found))
    checks = {str(check["name"]): check for check in result.checks}
    for span, name in (("first", "first_token"), ("last", "last_token")):
        check = checks[f"{name}_of_vllm_serve"]
        if check["value"] is not None:
            yield (
                f"- **To the {span} token** {plain(check['value'])} of the time of `vllm serve` "
                f"({interval(check['low'], check['high'])}), asked ≤ {plain(check['bar'])}: "
                f"{check['note']}."
            )
    for row in _rows(found, "What each feature is worth"):
        if row["token"] == "first":  # noqa: S105 - of an answer
            last = _of(found, str(row["feature"]), "last")
            yield (
                f"- **{str(row['feature']).capitalize()}**: {plain(row['on / off'])} of the time "
                f"to the first token, {plain(last)} of that to the last."
            )
    costs = {str(row["arm"]): row for row in _rows(found, "What it costs")}
    if _ALL in costs and _NONE in costs:
        yield (
            f"- **Engine seconds** a prompt: {plain(costs[_ALL]['engine s'])} with everything on, "
            f"{plain(costs[_NONE]['engine s'])} with nothing; "
            f"{percent(costs[_ALL]['waste/token'])} of the prompts' tokens were computed in vain."
        )
    yield from (verdicts(found), "")


def _of(found: Results, feature: str, span: str) -> float:
    rows = _rows(found, "What each feature is worth")
    return next(
        number(row["on / off"]) for row in rows if (row["feature"], row["token"]) == (feature, span)
    )


def _times(found: Results, target: Path) -> Iterator[str]:
    yield from ("## Where the time goes", "")
    rows = _rows(found, "Where the time goes")
    if not parts(rows, target / "journey-parts.svg"):
        yield from ("Not measured.", "")
        return
    yield from ("![Where each arm's time goes](journey-parts.svg)", "", PARTS_TEXT)
    yield from table(_rows(found, "From the last key"))
    yield ""
    yield from folded("The parts as a table", table(rows))


def _growth(found: Results, target: Path) -> Iterator[str]:
    rows = _rows(found, "How an answer grows")
    shown = {
        str(row["arm"]): _named(str(row["arm"]))
        for row in rows
        if row["arm"] in (_ALL, _NONE, "live") or "vllm" in str(row["arm"])
    }
    if not growth(rows, shown, target / "journey-growth.svg"):
        return
    yield from ("## How answers grow", "")
    yield from ("![Share of the answer on the screen over time](journey-growth.svg)", "")
    yield from folded("Every arm as a table", table(rows))


def _named(arm: str) -> str:
    return arm if "vllm" in arm else f"Headstart, {arm}"


def _features(found: Results, _target: Path) -> Iterator[str]:
    if rows := _rows(found, "What each feature is worth"):
        yield from ("## What each feature is worth", "", FEATURES_TEXT, *table(rows), "")


def _costs(found: Results, _target: Path) -> Iterator[str]:
    if rows := _rows(found, "What it costs"):
        yield from ("## What it costs", "", COSTS_TEXT, *table(rows), "")
    for title in ("Each prompt", "Processor use"):
        if rows := _rows(found, title):
            yield from folded(title, table(rows))


def _how(found: Results, _target: Path) -> Iterator[str]:
    config = found["journey"].tree["config"]
    yield from ("## How it is measured", "")
    yield from (
        f"- {name}: {said}."
        for name in ("rival", "link", "prompts", "typed", "clock", "connections", "order")
        if (said := config.get(name))
    )
    yield ""


def _rows(found: Results, title: str) -> list[Row]:
    return found["journey"].rows(title)


SECTIONS: tuple[Section, ...] = (
    _in_a_minute,
    _times,
    _growth,
    _features,
    _costs,
    _how,
    bars,
    sources,
)
