"""docs/json.md as the tests need it: a schema by command, stricter than it is printed there."""

import json
import re
from typing import Any

from jsonschema import Draft202012Validator

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "json.md").read_text()


def strict(schema: Any) -> Any:
    """As the page's introduction says: every property is there, and, of today's version, no other."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found |= {"required": list(schema["properties"]), "additionalProperties": False}
    return found


SCHEMAS = {
    command: strict(json.loads(schema))
    for command, schema in re.findall(r"^## `gnome (.*?) --json`\n.*?```json\n(.*?)```", PAGE, re.M | re.S)
}


def check(command: str, document: Any) -> None:
    """Hold a document against the page's schema of "top STORE" and its like."""
    Draft202012Validator(SCHEMAS[command]).validate(document)
