"""Has requests say what language they are in, where their model tells languages apart."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from headstart.configs.model_settings import ModelSettings
from headstart.pipeline.body_fields import Fields, Options
from headstart.stages.language import load, tag_of
from headstart.stages.prompt_language import prompt_language
from headstart.stages.routing import Wanted

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
        default_of: Returns how a served name's requests are drafted for that do not say, as its
            replicas have it; None where nothing drafts.
    """

    def __init__(
        self,
        models: Iterable[ModelSettings] = (),
        default_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._default_of = default_of
        self._told = {
            name: model.drafted_languages
            for model in models
            if model.drafted_languages
            for name in model.served_names
        }
        self._with_pools = {
            name
            for model in models
            if model.speculation is not None and model.speculation.drafters
            for name in model.served_names
        }
        if self._told:
            load()  # nobody's first request shall wait for it

    def have_pools(self, model: str) -> bool:
        """Whether a served name has pools of replicas by language."""
        return model in self._with_pools

    def wanted(self, options: Options, fields: Fields) -> Wanted:
        """Return what of a request decides on its pool, its options having been `named`.

        vLLM refuses `min_p` and `logit_bias` where a model drafts, and a seed repeats a sample only
        in the same pool.
        """
        is_plain = not fields.min_p and not fields.logit_bias and fields.seed is None
        return Wanted(options.language, self._is_by_language(options, fields) and is_plain)

    def named(self, options: Options, fields: Fields) -> Options:
        """Return a request's options with its prompt's language, if it can be told and matters."""
        told = self._told.get(fields.model) if isinstance(fields.model, str) else None
        if not told or options.language is not None or not self._is_by_language(options, fields):
            return options
        for text in _texts(fields):
            if (language := prompt_language(text, told)) is not None:
                return msgspec.structs.replace(options, language=tag_of(language, told))
        return options

    def _is_by_language(self, options: Options, fields: Fields) -> bool:
        """Whether what may draft for a request depends on its language."""
        default = self._default_of(fields.model) if isinstance(fields.model, str) else None
        return default is not None and (options.speculation or default) in ("auto", "drafter")


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
