"""Has requests say what language they are in, where their model tells languages apart."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from headstart.configs.model_settings import ModelSettings
from headstart.pipeline.body_fields import Fields, Options
from headstart.stages.language import load
from headstart.stages.prompt_language import prompt_language
from headstart.stages.routing import Wanted

if TYPE_CHECKING:
    from headstart.configs.speculation import SpeculationSettings

__all__ = ["InputLanguages"]

_MOST_TURNS = 4
"""Of a conversation that are looked at: "Go on." is in no language."""


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str = "user"
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class InputLanguages:
    """Tells the language of prompts.

    Only where it matters: models that neither draft by language nor declare any cost nothing here.

    Args:
        models: All that are served.
    """

    def __init__(self, models: Iterable[ModelSettings] = ()) -> None:
        self._drafted: dict[str, tuple[SpeculationSettings, tuple[str, ...]]] = {
            name: (model.speculation, model.drafted_languages)
            for model in models
            if model.speculation is not None and model.drafted_languages
            for name in model.served_names
        }
        if self._drafted:
            load()  # nobody's first request shall wait for it

    def have_pools(self, model: str) -> bool:
        """Whether a served name has pools of replicas by language."""
        how = self._drafted.get(model)
        return how is not None and bool(how[0].drafters)

    def wanted(self, options: Options, fields: Fields) -> Wanted:
        """Return what of a request decides on its pool, its options having been `named`.

        vLLM refuses `min_p` and `logit_bias` where a model drafts, and a seed repeats a sample only
        in the same pool.
        """
        how = self._of(fields)
        mode = options.speculation or (how and how[0].default) or "off"
        is_plain = not fields.min_p and not fields.logit_bias and fields.seed is None
        return Wanted(options.language, mode in ("auto", "drafter") and is_plain)

    def named(self, options: Options, fields: Fields) -> Options:
        """Return a request's options with its prompt's language, if it can be told and matters."""
        if (how := self._of(fields)) is None or options.language is not None:
            return options
        speculation, drafted = how
        # What no settings say, the replica's model card may: then a table may be asked for.
        if (options.speculation or speculation.default or "auto") not in ("auto", "drafter"):
            return options
        for text in _texts(fields):
            if (language := prompt_language(text, drafted)) is not None:
                return msgspec.structs.replace(options, language=language)
        return options

    def _of(self, fields: Fields) -> tuple["SpeculationSettings", tuple[str, ...]] | None:
        return self._drafted.get(fields.model) if isinstance(fields.model, str) else None


def _texts(fields: Fields) -> Iterator[str]:
    """What its user has written, the latest first; nothing where the engine will refuse it."""
    try:
        given = map(_decoder.decode, (fields.messages, fields.input, fields.prompt))
        written = next((each for each in given if each is not None), "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if isinstance(written, str):
        yield written
        return
    said = [each for each in written if each.role == "user"]
    for message in said[: -_MOST_TURNS - 1 : -1]:
        yield message.text


_decoder = msgspec.json.Decoder(str | list[_Message] | None)
