"""The JSON Schemas of ``docs/cli.schema.json``, held strictly: nothing more may be printed."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["COMMANDS", "SCHEMA", "check"]

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "cli.schema.json").read_text("utf-8")
)


def _closed(part: Any) -> Any:
    """The schema without room for properties that it does not name."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    more = {"additionalProperties": False} if "required" in part else {}
    return {name: _closed(value) for name, value in part.items()} | more


_DEFS: dict[str, Any] = _closed(SCHEMA["$defs"])
COMMANDS = sorted(_DEFS.keys() - {"instant", "job", "status"})


def check(command: str, printed: str) -> Any:
    """The document that a command printed, which must be what its schema says."""
    document = json.loads(printed)
    Draft202012Validator(
        {"$ref": f"#/$defs/{command}", "$defs": _DEFS},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    ).validate(document)
    return document
