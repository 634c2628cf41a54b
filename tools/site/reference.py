"""Pages of the site that are made of the code when it is built, so that they cannot say otherwise than it does."""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]


def _cell(text: object) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


# --- settings -------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Every key of the settings files: default, what it may be, what it means."""
    from gnome_core.analysis.replay import ReplayConfig
    from pipelines.potentials.config import PotentialConfig
    from pipelines.rounds.config import RoundConfig
    from pipelines.rounds.presets import PRESETS

    lines = [
        "# Settings",
        "",
        "A settings file is TOML; what it leaves out keeps the default below. `gnome config > round.toml` writes one "
        "with every key; unknown keys, values out of bounds and keys that do not go together are refused by name.",
        "",
        "## Presets",
        "",
        "`gnome config --preset NAME > round.toml` writes these values in place of the defaults.",
        "",
    ]
    for name, preset in PRESETS.items():
        lines += [f"**{name}**: {preset.purpose}.", "", "```toml", *_toml(preset.values), "```", ""]
    for title, command, kind in (
        ("round.toml", "gnome config", RoundConfig),
        ("potential.toml", "gnome potential config", PotentialConfig),
        ("replay.toml", "gnome replay --config", ReplayConfig),
    ):
        lines += [f"## {title}", "", f"`{command}`", ""]
        for path, section, about in _sections(kind()):
            if path:
                lines += [f"### [{path}] {{: #{title.split('.')[0]}-{path.replace('.', '-')} }}", "", f"{about}.", ""]
            lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
            for name, field in type(section).model_fields.items():
                value = getattr(section, name)
                if not isinstance(value, BaseModel):
                    lines.append(
                        f"| `{name}` | `{_toml_value(value)}` | {_allowed(field)} | {_cell(field.description or '')} |"
                    )
            lines.append("")
    return "\n".join(lines)


def _sections(model: BaseModel, path: str = "", about: str = "") -> Iterator[tuple[str, BaseModel, str]]:
    yield path, model, about
    for name, field in type(model).model_fields.items():
        if isinstance(value := getattr(model, name), BaseModel):
            yield from _sections(value, f"{path}.{name}" if path else name, (field.description or "").capitalize())


def _toml_value(value: object) -> str:
    import tomlkit

    if value is None:
        return "(empty)"
    return tomlkit.item(list(value) if isinstance(value, tuple) else value).as_string()


def _toml(values: dict[str, Any]) -> list[str]:
    import tomlkit

    return tomlkit.dumps(values).strip().splitlines()


def _allowed(field: Any) -> str:
    """Bounds, or the choices."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(m, name):g}" for m in field.metadata for name, sign in signs.items() if hasattr(m, name)
    ]
    kinds = [field.annotation, *get_args(field.annotation)]
    choices = [f"`{choice}`" for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if bool in kinds:
        choices = ["`true`", "`false`"]
    return ", ".join(choices or bounds) or "any"


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options."""
    import typer

    from pipelines.cli.app import PANELS, app

    root: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "`gnome -h` lists them, `gnome COMMAND -h` says what is here. What several of them share: exit code 2 and one "
        "line on stderr for a fault of yours, of a file or of the machine; 130 after Ctrl-C; `--json` documents are in "
        "[--json](../json.md). What follows `--` goes to Beam.",
        "",
        *_parameters(root),
    ]
    for panel, names in PANELS.items():
        lines += [f"## {panel}", ""]
        for name in names:
            lines += _command(f"gnome {name}", root.commands[name])
    return "\n".join(lines)


def _command(name: str, command: Any) -> list[str]:
    arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    lines = [f"### {name}", "", *inspect.cleandoc(command.help or "").split("\n"), ""]
    own = _parameters(command)
    if own or not hasattr(command, "commands"):
        lines += ["```text", " ".join([name, *arguments, *(["[OPTIONS]"] if own else [])]), "```", "", *own]
    for inner, child in getattr(command, "commands", {}).items():
        lines += _command(f"{name} {inner}", child)
    return lines


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    if parameter.nargs == -1 and "..." not in name:
        name += "..."
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _parameters(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        argument = parameter.param_type_name == "argument"
        shown = _argument(parameter) if argument else ", ".join(parameter.opts)
        shown += "".join(f" / {opt}" for opt in parameter.secondary_opts)
        default = parameter.default
        if callable(default) or default in (None, False, (), []) or default is Ellipsis or "Sentinel" in repr(default):
            default = ""
        rows.append(f"| `{shown}` | {f'`{_cell(default)}`' if default != '' else ''} | {_cell(parameter.help or '')} |")
    return ["| | default | |", "|---|---|---|", *rows, ""] if rows else []


# --- Python ---------------------------------------------------------------------------------------------------------


def public() -> Iterator[tuple[str, Any]]:
    """What `import gnome_core` and `import pipelines` offer, and the methods of what that gives."""
    for package in ("gnome_core", "pipelines"):
        module = import_module(package)
        for name in module.__all__:
            yield f"{package}.{name}", getattr(module, name)
    from pipelines.library import OpenStore

    for name, method in vars(OpenStore).items():
        if not name.startswith("_"):
            yield f"open_store(...).{name}", method


def python() -> str:
    """Signatures and docstrings."""
    lines = [
        "# Python",
        "",
        "`import gnome_core` and `import pipelines` offer these; [the library](../library.md) shows them at work. "
        "Functions take pymatgen Structures, ASE Atoms, `Crystal`s, paths, tables, or lists of them (`Crystals`).",
        "",
    ]
    for name, value in public():
        lines += [f"## {name}", "", "```python", _signature(name, value), "```", "", *_prose(value), ""]
    return "\n".join(lines)


def _signature(name: str, value: Any) -> str:
    parameters = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    returned = inspect.signature(value).return_annotation
    one_line = f"{name}({', '.join(map(_parameter, _with_star(parameters)))}) -> {returned}"
    if len(one_line) <= 100:
        return one_line
    return "\n".join([f"{name}(", *(f"    {_parameter(p)}," for p in _with_star(parameters)), f") -> {returned}"])


def _with_star(parameters: list[inspect.Parameter]) -> Iterator[inspect.Parameter | str]:
    starred = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield parameter


def _parameter(parameter: inspect.Parameter | str) -> str:
    if isinstance(parameter, str):
        return parameter
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _prose(value: Any) -> list[str]:
    """The docstring, with the names of parameters as code."""
    names = [name for name in inspect.signature(value).parameters if name != "self"]
    text = inspect.getdoc(value) or ""
    if names:
        text = re.sub(rf"(?<![\w`])({'|'.join(names)}): ", r"`\1`: ", text)
    return text.split("\n")


# --- tables ---------------------------------------------------------------------------------------------------------

# Title, where it is found, the module and name of its schema.
TABLES = (
    ("Entries", "`snapshot/entries`, `ingest/entries`; `gnome export`", "gnome_core.crystals.arrow", "ENTRY_SCHEMA"),
    ("Origins", "`snapshot/origins`, of several snapshots", "pipelines.reading.schemas", "ORIGIN_SCHEMA"),
    ("Merged crystals", "`snapshot/merged`, of several snapshots", "pipelines.reading.schemas", "MERGED_SCHEMA"),
    ("Candidates of files", "`generate/given`", "gnome_core.generation.given", "GIVEN_SCHEMA"),
    ("Candidates", "`generate/candidates`", "pipelines.reading.schemas", "CANDIDATE_SCHEMA"),
    ("Scored candidates", "`score/scored`", "pipelines.reading.schemas", "SCORED_SCHEMA"),
    ("Selected candidates", "`select/selected`", "pipelines.reading.schemas", "SELECTED_SCHEMA"),
    ("Jobs", "`emit/jobs`", "pipelines.reading.schemas", "PROPOSAL_SCHEMA"),
    ("Results", "`evaluate/results`", "dft.tables", "RESULT_SCHEMA"),
    ("Frames", "`evaluate/frames`", "dft.tables", "FRAME_SCHEMA"),
    ("Hull", "`hull/hull`", "pipelines.reading.schemas", "HULL_SCHEMA"),
    ("Convergence of searched compositions", "`ingest/convergence`", "pipelines.reading.schemas", "CONVERGENCE_SCHEMA"),
    ("Packing of searched compositions", "`score/packing`", "pipelines.reading.schemas", "PACKING_SCHEMA"),
    ("Members", "`train/members`", "pipelines.reading.schemas", "MEMBER_SCHEMA"),
    ("Dead letters", "an attempt's `dead`; `gnome dead STORE`", "pipelines.beam.dead_letters", "DEAD_SCHEMA"),
    ("Rounds", "`pipelines.open_store(STORE).rounds()`", "pipelines.library", "ROUNDS_SCHEMA"),
    ("Relaxed crystals", "`gnome relax -o FILE.parquet`", "pipelines.evaluation.relaxing", "RELAXED_SCHEMA"),
    ("Phonons", "`gnome phonons -o FILE.parquet`", "pipelines.evaluation.phonons", "PHONON_SCHEMA"),
    ("Trajectories", "`gnome potential md -o FILE.parquet`", "pipelines.potentials.trajectories", "TRAJECTORY_SCHEMA"),
    ("Conductivities", "`gnome potential screen STORE`", "pipelines.potentials.conductivity", "CONDUCTIVITY_SCHEMA"),
)  # fmt: skip
# Files whose columns the tables above take over.
HOMES = (
    "gnome_core/crystals/arrow.py",
    "gnome_core/generation/recipe.py",
    "dft/tables.py",
    "pipelines/reading/schemas.py",
)


def tables() -> str:
    """Columns, types and units of what a store and the commands write."""
    lines = [
        "# Tables and columns",
        "",
        "Parquet, units in the files' metadata too (`pyarrow.parquet.read_schema(FILE).metadata`). A stage's tables "
        "are `STORE/rounds/rNNNN/STAGE/attempts/...`; which files count is in its `COMMIT.json` "
        "([recipes](../library.md#the-files-themselves)). A column may be null where it says so.",
        "",
    ]
    inherited: dict[str, str] = {}
    for home in HOMES:
        inherited |= _comments(ROOT / home)
    for title, where, module, name in TABLES:
        schema: pa.Schema = getattr(import_module(module), name)
        said = {**inherited, **_comments(ROOT / f"{module.replace('.', '/')}.py")}
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        lines += [
            f"## {title}",
            "",
            f"{where}.",
            "",
            "| column | type | null | unit | meaning |",
            "|---|---|---|---|---|",
        ]
        for field in schema:
            unit = metadata.get(f"unit.{field.name}", "")
            null = "yes" if field.nullable else ""
            lines.append(f"| `{field.name}` | {field.type} | {null} | {unit} | {_cell(said.get(field.name, ''))} |")
        if "unit" in metadata:
            lines += ["", f"Energies are {metadata['unit']}."]
        lines.append("")
    return "\n".join(lines)


def _comments(path: Path) -> dict[str, str]:
    """Name of a column -> the comment behind its `pa.field("name", ...)`."""
    source = path.read_text()
    behind = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
        if token.type == tokenize.COMMENT
    }
    return {
        node.args[0].value: behind[node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "pa.field"
        and isinstance(node.args[0], ast.Constant)
        and node.end_lineno in behind
    }


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/python.md": python,
    "reference/tables.md": tables,
}
