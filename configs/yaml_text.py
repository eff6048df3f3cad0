"""YAML as settings use it: each key once, and no references.

PyYAML lets the last of two equal keys win, and a few lines of aliases stand for gigabytes.
"""

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["parse"]


def parse(text: str) -> object:
    """Read one document.

    Raises:
        yaml.YAMLError: It is not YAML, has a key twice, or an alias, or is nested too deep.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None


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


def _fault(mark: yaml.Mark, why: str) -> yaml.YAMLError:
    return yaml.YAMLError(f"line {mark.line + 1}: {why}")
