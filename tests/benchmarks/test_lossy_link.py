"""The link of the real-socket part: whose packets are whose, and what the weather does to them."""

import struct
from subprocess import PIPE, Popen

import msgspec
import pytest

from headstart.benchmarks.channel_models import Bottleneck, Link, NoLoss, RandomLoss
from headstart.benchmarks.child import command
from headstart.benchmarks.link_flows import TCP, UDP, Flow, Flows, Others, key_of
from headstart.benchmarks.lossy_link import Crossed, Standing, Tell
from headstart.benchmarks.socket_cells import SocketSample, links, settings
from headstart.benchmarks.stall_metrics import oracle_renders
from headstart.benchmarks.transport_grid import SCORING_SEEDS, TUNING_SEEDS, Group, Sample, _group
from headstart.benchmarks.transport_grid import _Weather as Weather

EPOCH = 1_000.0


def packet(protocol: int, source: int, target: int, options: int = 0) -> bytes:
    head = bytes([0x45 + options]) + bytes(8) + bytes([protocol]) + bytes(10 + 4 * options)
    return head + struct.pack("!HH", source, target) + bytes(40)


def flows(link: Link) -> Flows:
    found = Flows(lambda _cell, _seed: (link, Link(NoLoss(), link.delay_s)))
    found.begin([Flow(UDP, 500, "cell", 1, EPOCH)], 0.05)
    return found


@pytest.mark.parametrize("options", [0, 3])
def test_an_answer_is_known_by_its_clients_port(options: int) -> None:
    assert key_of(packet(UDP, 500, 8000, options), "up") == (UDP, 500)
    assert key_of(packet(TCP, 8000, 501, options), "down") == (TCP, 501)


@pytest.mark.parametrize(
    "data", [b"", b"\x45", packet(1, 0, 0), b"\x60" + bytes(60), packet(UDP, 1, 2)[:22]]
)
def test_what_is_no_packet_of_an_answer_is_nobodys(data: bytes) -> None:
    assert key_of(data, "up") is None


def test_nothing_is_lost_before_the_weather_begins_or_for_others() -> None:
    found = flows(Link(RandomLoss(1.0, 1), 0.05))

    assert found.arrivals((UDP, 500), "down", 100, EPOCH - 0.01) == [EPOCH + 0.04]
    assert found.arrivals((UDP, 501), "down", 100, EPOCH + 1) == [EPOCH + 1.05]
    assert found.arrivals((UDP, 500), "down", 100, EPOCH + 1) == []
    (passed,) = found.passed()
    assert (passed.down_packets, passed.down_lost, passed.down_bytes) == (1, 1, 100)


def test_flows_that_nobody_announced_each_meet_a_weather_of_their_own() -> None:
    asked: list[tuple[str, int]] = []

    def links(cell: str, seed: int) -> tuple[Link, Link]:
        asked.append((cell, seed))
        return Link(RandomLoss(1.0, seed), 0.05), Link(NoLoss(), 0.05)

    found = Flows(links)
    found.begin([], 0.01, Others("cell", 7, EPOCH))

    assert found.arrivals((TCP, 600), "down", 100, EPOCH - 1) == [EPOCH - 0.99]
    for port in (600, 601, 600):
        assert found.arrivals((TCP, port), "down", 100, EPOCH + 1) == []
    assert asked == [("cell", 7), ("cell", 8)]
    assert [each.down_lost for each in found.passed()] == [2, 1]
    found.begin([], 0.01)
    assert found.arrivals((TCP, 600), "down", 100, EPOCH + 2) == [EPOCH + 2.01]


def test_each_direction_has_its_own_queue_and_count() -> None:
    found = flows(Link(NoLoss(), 0.05, bottleneck=Bottleneck(1_000.0)))

    late = [found.arrivals((UDP, 500), "down", 250, EPOCH) for _ in range(4)]
    assert late == [[EPOCH + 0.3], [EPOCH + 0.55], [EPOCH + 0.8], []]
    assert found.arrivals((UDP, 500), "up", 250, EPOCH) == [EPOCH + 0.05]
    (passed,) = found.passed()
    assert (passed.down_packets, passed.down_lost, passed.up_packets) == (4, 1, 1)


def test_answers_of_a_cell_share_a_queue_where_it_says_so() -> None:
    def links(cell: str, _seed: int) -> tuple[Link, Link]:
        down = Link(NoLoss(), 0.05, bottleneck=Bottleneck(1_000.0, is_shared=cell == "shared"))
        return down, Link(NoLoss(), 0.05)

    for cell, second in (("shared", 0.55), ("own", 0.3)):
        found = Flows(links)
        found.begin([Flow(UDP, port, cell, port, EPOCH) for port in (1, 2)], 0.05)
        assert found.arrivals((UDP, 1), "down", 250, EPOCH) == [EPOCH + 0.3]
        assert found.arrivals((UDP, 2), "down", 250, EPOCH) == [EPOCH + second]


def test_a_new_block_forgets_the_last() -> None:
    found = flows(Link(RandomLoss(1.0, 1), 0.05))
    found.begin([], 0.15)

    assert found.arrivals((UDP, 500), "down", 100, EPOCH + 1) == [EPOCH + 1.15]
    assert found.passed() == []


def test_every_arm_meets_the_same_weather_and_the_oracle_knows_it() -> None:
    (name,) = (each.name for each in settings(SocketSample.full()) if "20 %, RTT 300" in each.name)
    first, again = links(name, 5)[0], links(name, 5)[0]
    moments = [0.02 * slot + 0.001 for slot in range(500)]
    lost = [not first.arrivals(at, 100) for at in moments]

    assert lost == [not again.arrivals(at, 100) for at in moments]
    assert 60 < sum(lost) < 140
    # Alone in its slot, what the oracle would have sent meets the same draw.
    shown = oracle_renders(moments, again.loss, 0.15)
    is_late = [at > made + 0.151 for made, at in zip(moments, shown, strict=True)]
    assert all(late for late, is_lost in zip(is_late, lost, strict=True) if is_lost)
    assert sum(is_late) < 2 * sum(lost)


def test_the_cells_are_those_that_were_asked_for() -> None:
    cells = {each.name: each for each in settings(SocketSample.full())}

    assert len(cells) == 13
    lossy = [each for each in cells.values() if each.group is Group.LOSSY]
    assert len(lossy) == 9
    assert {each.cell.rtt_s for each in lossy} == {0.02, 0.05, 0.1, 0.3}
    for each in lossy:
        # The bars are for windows that fit one payload, mean bursts included.
        assert _group(Weather("", 0.05, 0.05, each.cell.loss), each.cell) is Group.LOSSY
    assert {each.group for each in cells.values()} == {
        Group.LOSSY,
        Group.CLEAN,
        Group.BLACKOUT,
        Group.SHARED,
    }
    assert {each.name for each in settings(SocketSample.quick())} <= set(cells)


def test_seeds_are_nobody_elses() -> None:
    for sample, simulated, base in (
        (SocketSample.full(), Sample.full(), SCORING_SEEDS),
        (SocketSample.quick(), Sample.quick(), TUNING_SEEDS),
    ):
        used = [seed for block in range(sample.num_blocks) for seed in sample.seeds(block)]
        assert len(set(used)) == len(used)
        assert min(used) > max(simulated.seeds(10_000))
        assert max(used) < base + 1_000_000  # where the way up begins


def test_the_link_goes_with_its_input() -> None:
    """However its benchmark ends: what it has made has no name, and is nobody's to remove."""
    argv = command("headstart.benchmarks.lossy_link", "serve")
    with Popen(argv, stdin=PIPE, stdout=PIPE) as link:
        assert link.stdin is not None
        assert link.stdout is not None
        standing = msgspec.json.decode(link.stdout.readline(), type=Standing)
        # Where there are no privileges it is a relay, and says why.
        assert (standing.kind == "tun") == bool(standing.server_space) == (not standing.why)
        link.stdin.write(msgspec.json.encode(Tell()) + b"\n")
        link.stdin.flush()
        crossed = msgspec.json.decode(link.stdout.readline(), type=Crossed)
        assert crossed.flows == []
        link.stdin.close()

        assert link.wait(30) == 0
