"""The browser benchmark's ends on a real link: a real Chromium, real losses, one round of each."""

from collections.abc import Iterator

import pytest

from headstart.benchmarks.browser_cells import FAST, PACED, BrowserSample, Part
from headstart.benchmarks.browser_orders import Arm, Cost, Heap, Stay, Weigh
from headstart.benchmarks.browser_rig import BrowserRig
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

pytestmark = pytest.mark.chromium

SAMPLE = BrowserSample.quick()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserRig]:
    """Gateway, link and browser."""
    folder = tmp_path_factory.mktemp("browser")
    with BrowserRig(Settings(models=(PACED,)), folder) as rig:
        try:
            assert rig.launch().startswith("Chrome")
        except SetupError as error:
            pytest.skip(error.message)
        yield rig


@pytest.mark.parametrize("arm", list(Arm))
def test_pages_read_through_losses_and_nothing_is_wrong(rig: BrowserRig, arm: Arm) -> None:
    rig.open(arm, 2)
    found = rig.round(Part.PAUSES, arm, SAMPLE, 0, PACED)
    rig.shut(arm)

    assert 0.02 < found.loss < 0.25
    for seen in found.seen:
        assert seen.is_done
        assert seen.is_exact
        assert len(seen.gaps_s) > 10
        assert seen.steps[-1][2] == 200
        assert (seen.climbed_s is not None) == (arm is Arm.OURS)
        assert 0.1 < seen.first_s < seen.ended_s


def test_reloading_in_the_middle_loses_and_repeats_nothing(rig: BrowserRig) -> None:
    rig.open(Arm.OURS, 2)
    found = rig.round(Part.PAUSES, Arm.OURS, SAMPLE, 1, PACED, (1.0, 2.0))
    rig.shut(Arm.OURS)

    assert all(seen.is_done and seen.is_exact for seen in found.seen)


def test_a_page_that_stays_open_leaves_nothing_behind(rig: BrowserRig) -> None:
    """The benchmark reads 480 answers, a minute's worth each; here a leak of a node would show."""
    stay = Stay(Arm.OURS, rig.url, FAST.name, 40, 4, 8 * 3600.0)
    heaps = rig.ask_readers(stay, list[Heap])

    assert [heap.num_answers for heap in heaps] == [10, 20, 30, 40, 40]
    assert heaps[-1].is_after_idling
    assert heaps[-1].num_listeners == heaps[0].num_listeners
    assert heaps[-1].num_nodes < heaps[0].num_nodes + 20


def test_the_main_threads_time_is_told_by_frame(rig: BrowserRig) -> None:
    (cost,) = rig.ask_readers(Weigh(Arm.OURS, rig.url, PACED.name, 1), list[Cost])

    assert 20 < cost.num_frames < 400
    assert 0 < cost.script_s < cost.task_s
    assert 0 < cost.layout_s < cost.task_s
