"""The settings described for readers: their JSON schema, and the table in `docs/settings.md`.

Both are made from the model alone, so that no second list of options exists.
"""

from collections.abc import Iterator
from typing import cast

from headstart.configs.layers import ENV_PREFIX
from headstart.configs.settings import Settings

__all__ = ["schema", "table"]

Schema = dict[str, object]

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
}

_HEADER = f"""\
# Settings

<!-- Made by `headstart config --table > docs/settings.md`; a test fails when it is stale. -->

A setting comes from the file given with `--config`, from the environment, or from a flag; the later
wins. These three say the same, and the value is YAML in each:

```
gateway: {{port: 8001}}            # in the file
{ENV_PREFIX}GATEWAY__PORT=8001    # in the environment
--set gateway.port=8001          # as a flag, any number of times
```

An item of a list is named by its index or its `name`: `--set models.0.replicas=2`,
`--set models.smollm2-135m-instruct.replicas=2`. Unknown keys and impossible values stop the start
with the key's name, and so does a key that is there twice; YAML's aliases (`*name`) are refused.
A variable's name is the key in capitals after `{ENV_PREFIX}`, with two underscores between parts;
others that begin so are ignored, because Kubernetes sets such (`{ENV_PREFIX}GATEWAY_PORT`) for
services. `headstart config` prints the settings in effect, secrets masked.

| Key | Type | Default | Range | Meaning |
|---|---|---|---|---|
"""


def schema() -> Schema:
    """Return the JSON schema of the settings file."""
    return Settings.model_json_schema()


def table() -> str:
    """Return `docs/settings.md`."""
    root = schema()
    definitions = cast("dict[str, Schema]", root["$defs"])
    return _HEADER + "".join(f"{row}\n" for row in _rows(root, "", definitions))


def _rows(section: Schema, prefix: str, definitions: dict[str, Schema]) -> Iterator[str]:
    required = cast("list[str]", section.get("required", []))
    for name, spec in cast("dict[str, Schema]", section["properties"]).items():
        key = f"{prefix}{name}"
        value = _without_null(spec)
        item = cast("Schema", value.get("items", value))
        if "$ref" in item:
            definition = definitions[str(item["$ref"]).rpartition("/")[2]]
            below = f"{key}[]." if item is not value else f"{key}."
            yield from _rows(definition, below, definitions)
            continue
        cells = (
            f"`{key}`",
            _type(value),
            "required" if name in required else _default(spec),
            " and ".join(
                text.format(value[bound]) for bound, text in _BOUNDS.items() if bound in value
            ),
            str(spec.get("description", "")),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _without_null(spec: Schema) -> Schema:
    """Return the schema of the value where it is set, for a key that may be unset."""
    options = cast("list[Schema]", spec.get("anyOf", []))
    return next((option for option in options if option.get("type") != "null"), spec)


def _type(value: Schema) -> str:
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in cast("list[str]", value["enum"]))
    if value.get("format") == "path":
        return "path"
    match value.get("type"):
        case "array":
            return f"list of {_type(cast('Schema', value['items']))}"
        case "string":
            return "text"
        case "object":
            return "mapping"
        case "boolean":
            return "true, false"
        case other:
            return str(other)


def _default(spec: Schema) -> str:
    match spec.get("default"):
        case None:
            return "unset"
        case bool() as value:
            return f"`{value}`".lower()
        case "":
            return "unset"
        case value:
            return f"`{value}`"
