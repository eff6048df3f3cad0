"""YAML as settings use it: each key once, no references, and what is wrong in one line.

PyYAML lets the last of two equal keys win, and a few lines of aliases stand for gigabytes.
"""

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["YamlFault", "parse"]


class YamlFault(ValueError):
    """Text that settings cannot be read from.

    Args:
        why: In one line.
        line: At fault, the first being 1, if it is known.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why if line is None else f"line {line}: {why}")
        self.why = why
        self.line = line


def parse(text: str) -> object:
    """Read one document.

    Raises:
        YamlFault: It is not YAML, has a key twice, or an alias, or is nested too deep.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except RecursionError:
        raise YamlFault("it is nested too deep") from None
    except yaml.MarkedYAMLError as error:
        # PyYAML words it in several lines, the text itself among them.
        why = ", ".join(filter(None, (error.context, error.problem)))
        raise _fault(error.problem_mark or error.context_mark, why) from None
    except yaml.YAMLError as error:
        raise YamlFault(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _fault(event.start_mark, f"the alias *{event.anchor}: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise _fault(key.start_mark, f"the key {key.value!r} is there twice")
                keys.add(key.value)
        return super().construct_mapping(node, deep)


def _fault(mark: yaml.Mark | None, why: str) -> YamlFault:
    return YamlFault(why, None if mark is None else mark.line + 1)
