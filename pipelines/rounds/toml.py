"""Settings as TOML: read with complaints that name the key, and written with every default and meaning."""

from __future__ import annotations

import difflib
import tomllib
import types
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ValidationError

from pipelines.errors import UserError

Settings = TypeVar("Settings", bound=BaseModel)


def read_toml(path: str, command: str) -> dict[str, Any]:
    """The values of a settings file; `command` is the one that prints such a file. Raises UserError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; `{command} > {path}` writes one") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not settings: its values are nested without end") from None


def parse_settings(kind: type[Settings], values: dict[str, Any], origin: str) -> Settings:
    """Plain values as settings of a kind. Raises UserError naming the origin, the key and the nearest valid key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {_complaint(error.errors()[0], kind)}") from None


def _complaint(error: Any, kind: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # keys that do not go together
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    if error["type"] != "extra_forbidden":
        return f"{key or 'config'}: {error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"
    known = _keys(kind)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:  # the right key in the wrong table, perhaps
        last = key.rpartition(".")[2]
        near = difflib.get_close_matches(last, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.6)
        near = [k for k in known if near and k.rpartition(".")[2] == near[0]][:1]
    hint = f"did you mean {near[0]}?" if near else "`gnome config` prints the valid keys"
    return f"unknown key {key}; {hint}"


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys


def config_toml(
    config: BaseModel, title: str = "Settings of a round of the flywheel; keys left out keep these values"
) -> str:
    """The config as TOML with a comment for every key; unset optional keys are commented out."""
    document = tomlkit.document()
    document.add(tomlkit.comment(title))
    _add_fields(document, config)
    return tomlkit.dumps(document)


def _add_fields(container, model: BaseModel) -> None:
    fields = type(model).model_fields
    tables = [name for name in fields if isinstance(getattr(model, name), BaseModel)]
    for name, field in fields.items():
        if name in tables:
            continue
        value = getattr(model, name)
        comment = field.description or ""
        if value is None:
            container.add(tomlkit.comment(f"{name} = {_placeholder(field.annotation)}  # {comment}"))
            continue
        item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
        container.add(name, item.comment(comment) if comment else item)
    for name in tables:
        table = tomlkit.table()
        if description := fields[name].description:
            table.comment(description)
        _add_fields(table, getattr(model, name))
        container.add(tomlkit.nl())
        container.add(name, table)


def _placeholder(annotation: Any) -> str:
    """An example value of an optional field's type."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    kind = next(k for k in kinds if k is not type(None))
    return {int: "1000", float: "0.5", str: '""'}.get(kind, "[]")
