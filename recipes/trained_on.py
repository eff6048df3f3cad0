"""Which prompts weights were trained on: a digest of each, beside the weights."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from headstart.cluster.merged_model import TRAINED_ON
from headstart.recipes.samples import write_json
from headstart.stages.errors import SetupError

__all__ = ["digests_of", "joined", "note", "noted", "parted"]

_BYTES = 5
"""Of a digest: among ten thousand prompts, one in a hundred million others is taken for one."""


def joined(digests: Iterable[bytes]) -> bytes:
    """Return digests in one piece."""
    return b"".join(sorted(digests))


def parted(whole: bytes, size: int = _BYTES) -> set[bytes]:
    """Return the digests, each of `size` bytes, that `joined` put into one piece."""
    return {whole[place : place + size] for place in range(0, len(whole), size)}


def digests_of(prompts: Iterable[Sequence[int]]) -> set[bytes]:
    """Return a digest of each prompt's tokens."""
    return {hashlib.sha256(json.dumps(list(each)).encode()).digest()[:_BYTES] for each in prompts}


def note(folder: Path, digests: Iterable[bytes]) -> None:
    """Write digests into a folder of weights."""
    whole = base64.b85encode(joined(digests)).decode()
    write_json(folder / TRAINED_ON, {"bytes": _BYTES, "digests": whole})


def noted(folder: Path) -> set[bytes]:
    """Return the digests in a folder; none where nobody noted any.

    Raises:
        SetupError: They are damaged.
    """
    try:
        tree = json.loads((folder / TRAINED_ON).read_bytes())
        whole, size = base64.b85decode(tree["digests"]), int(tree["bytes"])
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{folder / TRAINED_ON} is damaged ({error}): remove it, or export again"
        ) from error
    return parted(whole, size)
