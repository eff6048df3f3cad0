"""Two network namespaces without names, with a TUN device in each.

Nothing of them is on disk and nobody has to remove them: they go with the last process in them and
the last open descriptor of them, however that process ends.
"""

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from headstart.stages.errors import SetupError

__all__ = ["CLIENTS", "SERVER", "Space", "enter", "make", "visiting"]

SERVER = "10.77.0.1"
CLIENTS = {"cubic": "10.77.0.2", "bbr": "10.77.0.3"}
"""Addresses of readers, by the congestion control that the server's TCP uses towards them."""

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_DEVICE = "hs0"
_MTU = 1400
_SYSCTL = Path("/proc/sys/net/ipv4")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Space:
    """One end of the link."""

    path: str
    """For `enter`, as long as the process that made it runs."""
    device: int
    """Descriptor that reads what the end sends, a packet at a time, and writes what it gets."""


def make() -> tuple[Space, Space, list[str]]:
    """Make the server's end and the client's. The calling process is left in the client's.

    Returns: Both, and the congestion controls that the server's TCP has.

    Raises:
        SetupError: The system does not let us, or lacks something. The process is where it was.
    """
    with Path("/proc/self/ns/net").open("rb") as before:
        try:
            return _make()
        except SetupError:
            with suppress(OSError):  # it has not left
                _call(_libc.setns, before.fileno(), _NEW_NETWORK)
            raise


def _make() -> tuple[Space, Space, list[str]]:
    server = _space()
    _configure("addr", "add", f"{SERVER}/24", "dev", _DEVICE)
    # What one answer found out about the path shall not help the next.
    (_SYSCTL / "tcp_no_metrics_save").write_text("1")
    controls = [name for name, address in CLIENTS.items() if _route(address, name)]
    client = _space()
    for address in CLIENTS.values():
        _configure("addr", "add", f"{address}/24", "dev", _DEVICE)
    return server, client, controls


def enter(path: str) -> None:
    """Move the calling process into a namespace; before it has threads.

    Raises:
        OSError: It is gone, or the process may not.
    """
    with Path(path).open("rb") as space:
        _call(_libc.setns, space.fileno(), _NEW_NETWORK)


@contextmanager
def visiting(path: str) -> Iterator[None]:
    """Have the calling thread in a namespace for a while; what it starts there stays there.

    Raises:
        OSError: It is gone, or the process may not.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        enter(path)
        try:
            yield
        finally:
            _call(_libc.setns, home.fileno(), _NEW_NETWORK)


def _space() -> Space:
    try:
        _call(_libc.unshare, _NEW_NETWORK)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", _DEVICE.encode(), _TUN_WITHOUT_HEADER)
        fcntl.ioctl(device, _SET_INTERFACE, request)
        space = os.open("/proc/self/ns/net", os.O_RDONLY)
    except OSError as error:
        raise SetupError(f"no network namespaces with TUN devices: {error}") from error
    with suppress(OSError):  # without IPv6 there is nothing to switch off
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    _configure("link", "set", "lo", "up")
    _configure("link", "set", _DEVICE, "mtu", str(_MTU), "up")
    return Space(f"/proc/{os.getpid()}/fd/{space}", device)


def _route(address: str, control: str) -> bool:
    """Have TCP towards an address use a congestion control; False where the kernel lacks it."""
    available = (_SYSCTL / "tcp_available_congestion_control").read_text().split()
    if control not in available:
        return False
    _configure("route", "add", f"{address}/32", "dev", _DEVICE, "congctl", control)
    return True


def _configure(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SetupError("no program `ip`: install iproute2") from error
    except subprocess.CalledProcessError as error:
        raise SetupError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error


def _call(function: "ctypes._NamedFuncPointer", *arguments: int) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, errno.errorcode.get(number, "unknown error"))
