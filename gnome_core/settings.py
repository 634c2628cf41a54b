"""What all sections of settings files share. Loads no jax, so that settings are read at once."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A table of a settings file.

    Unknown keys and numbers that are not finite are refused. Keys that a table leaves out keep the values of the
    section that stands there when the whole table is left out, which need not be those of the table's kind: the
    defaults of [compositional.training] are not those of [training].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: _over(defaults[name], value) if isinstance(defaults.get(name), Section) else value
            for name, value in values.items()
        }


def _over(default: Section, given: Any) -> Any:
    """The given keys, and those of the default that were set when it was made."""
    if not isinstance(given, dict):
        return given
    set_ = {name: getattr(default, name) for name in type(default).model_fields if name in default.model_fields_set}
    nested = {
        name: _over(getattr(default, name), value)
        for name, value in given.items()
        if isinstance(getattr(default, name, None), Section)
    }
    return {**set_, **given, **nested}
