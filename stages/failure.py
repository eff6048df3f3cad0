"""An error on its way to another process: the class of our tree it was, and its message."""

from typing import Self

import msgspec

from headstart.stages import errors
from headstart.stages.errors import EngineFailed, HeadstartError

__all__ = ["Failure"]


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why something ended without what was asked for."""

    message: str
    error: str = EngineFailed.__name__
    """Name of a class in `headstart.stages.errors`."""
    param: str | None = None
    """The field at fault, if the error names one."""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Note an error. One that is not of our tree is named, not quoted: it may hold a prompt."""
        if isinstance(error, HeadstartError):
            return cls(error.message, type(error).__name__, error.param)
        return cls(f"the engine failed: {type(error).__name__}")

    def to_error(self) -> HeadstartError:
        """Make the error it was; a class this version does not know becomes `EngineFailed`."""
        if self.error not in errors.__all__:
            return EngineFailed(self.message, param=self.param)
        kind: type[HeadstartError] = getattr(errors, self.error)
        return kind(self.message, param=self.param)
