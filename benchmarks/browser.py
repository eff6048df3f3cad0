"""Does the page at `/` pause where packets get lost? In a real Chromium, beside itself on SSE.

Both arms are one page, unchanged, asked by its own button: one in a browser with WebTransport, the
other in one without, whose answers come over the kernel's TCP. Both go through the same link.
"""

import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from headstart.benchmarks import chromium
from headstart.benchmarks.browser_cells import FAST, HALF, PACED, SHORT, BrowserSample, Part
from headstart.benchmarks.browser_orders import Arm, Cost, Heap, Stay, Weigh
from headstart.benchmarks.browser_report import Cells, Measured, checks, tables
from headstart.benchmarks.browser_rig import BrowserRig, Round
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Report, write
from headstart.benchmarks.socket_report import LATE_S
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["run"]

RELOADS_S = (1.2, 2.6)
IDLE_S = 8 * 3600.0
NUM_SAMPLES = 20


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, report, and return the exit status.

    Raises:
        SetupError: There is no Chromium, no lossy path for TCP, or a process does not start.
    """
    if chromium.program() is None:
        raise SetupError("chromium is not installed: apt-get install chromium")
    origin, began = here(), time.monotonic()
    sample = BrowserSample.quick() if options.is_quick else BrowserSample.full()
    print(
        f"browser: {sample.num_pages} pages at once, each in a context of its own with one answer; "
        "one arm at a time, in turns"
    )
    with (
        tempfile.TemporaryDirectory(prefix="headstart-bench-") as name,
        BrowserRig(settings, Path(name)) as rig,
    ):
        browser = rig.launch()
        measured = _measure(rig, sample)
        standing = rig.standing
    report = Report(
        name="browser",
        origin=origin,
        is_quick=options.is_quick,
        config={
            "sample": asdict(sample),
            "browser": browser,
            "headless": True,
            "link": standing.kind,
            "kernel_tcp": "cubic" if "cubic" in standing.controls else "the kernel's own",
            "http": "1.1, without TLS, for both",
            "answers_at_once": sample.num_pages,
            "arms_at_once": 1,
            "core_binding": None,
            "rounds_run_again": measured.num_repeats,
            "load_average_at_the_end": os.getloadavg()[0],
        },
        tables=tables(measured),
        checks=checks(measured, is_quick=options.is_quick),
        duration_s=time.monotonic() - began,
    )
    write(report, options.json_path)
    return report.exit_status


def _measure(rig: BrowserRig, sample: BrowserSample) -> Measured:
    found = Measured()
    total = 2 * sum(sample.rounds.values()) + 2 * sample.num_fresh + sample.num_reloads + 3
    with tqdm(total=total, unit="round", desc="browser") as progress:
        rounds = _Rounds(rig, sample, found, progress)
        for part, count in sample.rounds.items():
            rounds.cell(part, count, found.cells[part])
        rounds.fresh(Part.PAUSES, sample.num_fresh, found.fresh)
        rounds.reloads(Part.PAUSES, sample.num_reloads, found.reloads)
        for arm in Arm:
            weigh = Weigh(arm, rig.url, HALF.name, sample.num_weighed)
            found.costs[arm] = rig.ask_readers(weigh, list[Cost])
            progress.update()
        stay = Stay(Arm.OURS, rig.url, FAST.name, sample.num_stayed, NUM_SAMPLES, IDLE_S)
        found.heaps = rig.ask_readers(stay, list[Heap])
        progress.update()
    return found


class _Rounds:
    """Rounds of either arm, one after the other."""

    def __init__(
        self, rig: BrowserRig, sample: BrowserSample, found: Measured, progress: tqdm
    ) -> None:
        self._rig, self._sample, self._found, self._progress = rig, sample, found, progress

    def cell(self, part: Part, count: int, cells: Cells) -> None:
        for arm in Arm:
            self._rig.open(arm, self._sample.num_pages)
        model = SHORT if part is Part.CLEAN else PACED
        for number in range(count):
            for arm in _turns(number):
                cells[arm].append(self._undisturbed(part, arm, number, model))
                self._progress.update()
        for arm in Arm:
            self._rig.shut(arm)

    def fresh(self, part: Part, count: int, cells: Cells) -> None:
        for number in range(count):
            for arm in _turns(number):
                self._rig.open(arm, self._sample.num_pages, is_warm=False)
                found = self._rig.round(
                    part, arm, self._sample, 1_000 + number, PACED, is_typed=False
                )
                cells[arm].append(found)
                self._progress.update()
                self._rig.shut(arm)

    def reloads(self, part: Part, count: int, rounds: list[Round]) -> None:
        self._rig.open(Arm.OURS, self._sample.num_pages)
        for number in range(count):
            after_s = [each + 0.13 * number for each in RELOADS_S]
            rounds.append(self._round(part, Arm.OURS, 2_000 + number, PACED, after_s))
            self._progress.update()
        self._rig.shut(Arm.OURS)

    def _undisturbed(self, part: Part, arm: Arm, number: int, model: ModelSettings) -> Round:
        for left in reversed(range(self._sample.most_tries)):
            found = self._round(part, arm, number, model)
            if found.late_p99_s <= LATE_S or not left:
                return found
            self._found.num_repeats += 1
        raise AssertionError

    def _round(
        self,
        part: Part,
        arm: Arm,
        number: int,
        model: ModelSettings,
        reload_after_s: list[float] | None = None,
    ) -> Round:
        return self._rig.round(part, arm, self._sample, number, model, reload_after_s or [])


def _turns(number: int) -> list[Arm]:
    return list(Arm) if number % 2 == 0 else list(reversed(Arm))
