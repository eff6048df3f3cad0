"""The text of a live prompt, in the room that there is for it."""

from collections.abc import Sequence
from hashlib import sha256

from headstart.pipeline.live_events import Append, Clear, EditEvent, Replace, refusal
from headstart.stages.errors import LiveConflict, LiveRefused, Overloaded, RateLimited
from headstart.stages.prompt_document import EditError, PromptDocument
from headstart.stages.shared_room import Share

__all__ = ["LiveDraft"]


class LiveDraft:
    """One session's.

    Args:
        max_chars: Most code points that the session holds, with all that is not its text.
        share: What it holds of what all sessions may.
    """

    def __init__(self, max_chars: int, share: Share) -> None:
        self._document = PromptDocument(max_chars)
        self._max_chars = max_chars
        self._share = share

    @property
    def text(self) -> str:
        return self._document.text

    @property
    def version(self) -> int:
        return self._document.version

    def check_version(self, version: int | None) -> None:
        """Refuse whoever has seen another text.

        Raises:
            LiveConflict: It is at another version.
        """
        if version is not None and version != self.version:
            raise LiveConflict(
                f"the text is at version {self.version}", param="version", code="version_conflict"
            )

    def check_text(self, digest: str | None) -> None:
        """Refuse whoever means another text, as two whose edits were as many may.

        Raises:
            LiveConflict: It is another than that of a SHA-256 digest.
        """
        if digest is not None and digest.lower() != sha256(self.text.encode()).hexdigest():
            raise LiveConflict("the text is another", param="sha256", code="version_conflict")

    def missing(self, events: Sequence[EditEvent]) -> list[EditEvent]:
        """Return those of some edits that are not made yet.

        Raises:
            LiveRefused: One does not say which version it is about.
        """
        missing = []
        for event in events:
            if event.version is None:
                raise LiveRefused(
                    "an edit that comes with a commit names the version that it is about",
                    param="edits",
                    code="invalid_body",
                )
            if event.version >= self.version:
                missing.append(event)
        return missing

    def edit(self, event: EditEvent) -> int:
        """Change the text; return the first code point that is not what it was.

        Raises:
            LiveRefused: It cannot be done.
            LiveConflict: It is meant for another version.
            Overloaded: There is no room for more.
            RateLimited: There is, but not for this key.
        """
        self.check_version(event.version)
        start, end, text = len(self.text), len(self.text), ""
        match event:
            case Append():
                text = event.text
            case Replace():
                start, end, text = event.start, event.end, event.text
            case Clear():
                start = 0
        if (error := self._document.error(start, end, text)) is not None:
            raise refusal(error)
        self._hold(len(text) - (end - start))
        self._document.replace(start, end, text)
        return start

    def leave(self, num_chars: int) -> None:
        """Leave so many code points of the session's to what is not its text.

        Raises:
            HeadstartError: The text is too long for that, or there is no room for more.
        """
        room = self._max_chars - num_chars
        if room < len(self.text):
            raise refusal(EditError.TOO_LONG)
        more = self._document.max_chars - room
        if more > 0:
            self._hold(more)
        self._document.max_chars = room
        self._hold()

    def begin(self, num_chars: int) -> None:
        """Begin another text beside so many code points, though there be no room for any."""
        self._document.clear()
        self._document.max_chars = max(0, self._max_chars - num_chars)
        self._hold()

    def forget(self) -> None:
        """Forget the text, and hold nothing any more."""
        self._document.clear()
        self._share.hold(0)

    def _hold(self, more: int = 0) -> None:
        """Hold what there is of what all sessions share, and so many code points more or less.

        What there is counts though there be no room: an answer takes what it takes, and until that
        is given back nobody gets more.
        """
        num_chars = self._max_chars - self._document.max_chars + len(self.text) + more
        if more <= 0:
            self._share.account_for(num_chars)
        elif not self._share.hold(num_chars):
            if self._share.fits(num_chars):
                raise RateLimited("the API key has its share of the room; try again")
            raise Overloaded("all room for live prompts is taken; try again")
