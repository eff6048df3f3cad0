"""A prompt while it is being written: text, edits, and a version that counts them."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Edit", "EditError", "PromptDocument"]


class EditError(StrEnum):
    """Why an edit was refused; the document is as it was."""

    OUT_OF_RANGE = "out_of_range"
    TOO_LONG = "text_too_long"


@dataclass(frozen=True, slots=True)
class Edit:
    """What an edit did."""

    start: int
    """First code point that is not what it was."""
    is_append: bool
    """Whether everything that was there still is."""


class PromptDocument:
    """Text that is edited in place. Positions count code points.

    Args:
        max_chars: Most code points it holds.
    """

    def __init__(self, max_chars: int) -> None:
        self.max_chars = max_chars
        self.text = ""
        self.version = 0
        """Grows by one with every edit."""

    def append(self, text: str) -> Edit | EditError:
        """Add text at the end."""
        return self.replace(len(self.text), len(self.text), text)

    def replace(self, start: int, end: int, text: str) -> Edit | EditError:
        """Put `text` in the place of the code points from `start` up to `end`."""
        if (error := self.error(start, end, text)) is not None:
            return error
        is_append = start == len(self.text)
        self.text = self.text[:start] + text + self.text[end:]
        self.version += 1
        return Edit(start, is_append)

    def error(self, start: int, end: int, text: str) -> EditError | None:
        """Return why `replace` would be refused, if it would."""
        if not 0 <= start <= end <= len(self.text):
            return EditError.OUT_OF_RANGE
        if len(self.text) - (end - start) + len(text) > self.max_chars:
            return EditError.TOO_LONG
        return None

    def clear(self) -> Edit:
        """Forget the text."""
        is_append = not self.text
        self.text = ""
        self.version += 1
        return Edit(0, is_append)
