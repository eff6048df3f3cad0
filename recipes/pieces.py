"""Folders as pieces of bounded size, for ways out of a machine that take no large files."""

import io
import tarfile
from hashlib import sha256
from pathlib import Path

from headstart.stages.errors import SetupError

__all__ = ["cut", "join"]


class _Pieces(io.RawIOBase):
    """A stream that is written as files `name.00000`, `name.00001`, ..."""

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._max_bytes = max_bytes
        self._written = 0
        self.digest = sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        self.digest.update(view)
        left = view
        while left:
            number, used = divmod(self._written, self._max_bytes)
            some = left[: self._max_bytes - used]
            with (self._folder / f"{self._name}.{number:05d}").open("ab") as file:
                file.write(some)
            self._written += len(some)
            left = left[len(some) :]
        return len(view)


def cut(source: Path, folder: Path, max_bytes: int) -> None:
    """Write a folder, as a tar file, in pieces; a digest of all lies beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{source.name}.*"):
        old.unlink()
    pieces = _Pieces(folder, source.name, max_bytes)
    with tarfile.open(fileobj=pieces, mode="w|") as archive:
        archive.add(source, arcname=source.name)
    (folder / f"{source.name}.sha256").write_text(pieces.digest.hexdigest() + "\n")


def join(folder: Path, name: str, into: Path) -> Path:
    """Unpack what `cut` wrote; returns the folder.

    Raises:
        SetupError: A piece is missing or damaged.
    """
    pieces = sorted(folder.glob(f"{name}.[0-9]*"))
    whole = b"".join(piece.read_bytes() for piece in pieces)
    try:
        meant = (folder / f"{name}.sha256").read_text().strip()
    except OSError as error:
        raise SetupError(f"{folder} holds no {name}.sha256: copy that too") from error
    if sha256(whole).hexdigest() != meant:
        raise SetupError(f"the pieces {name}.* in {folder} are not whole: copy them again")
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(into, filter="data")
    return into / name
