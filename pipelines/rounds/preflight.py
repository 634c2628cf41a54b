"""What a round names, looked up before it starts: once started, its settings cannot be changed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from gnome_core.compositions.formulas import NUMBERS
from gnome_core.ensembles.plugins import ENSEMBLE, make_model
from gnome_core.generation.config import FILE
from pipelines.errors import UserError
from pipelines.reading.potentials import evaluator_until, local_evaluator
from pipelines.rounds.config import RoundConfig
from pipelines.store.store import Store

EXTRA = "pip install 'gnome-flywheel[dft]'"
VASP_NEEDS = {"folders": ("custodian",), "tar": ("custodian",), "flows": ("custodian", "jobflow", "atomate2")}


def check_round(store: Store, round_: int, config: RoundConfig) -> None:
    """Raise UserError naming the key, if a stage of this round could not run with these settings.

    Programs and pseudopotentials are left out: jobs may run elsewhere.
    """
    scale = _check_evaluators(store, round_, config)
    _check_generation(config)
    _check_known(config)
    _check_model(config, scale)
    if round_ == 0:
        _check_first_members(config)
        _check_snapshot_elements(config)
    else:
        _check_members(store, round_, config)
        _check_hull(store, round_, config, scale)


def _check_evaluators(store: Store, round_: int, config: RoundConfig) -> str:
    """The scale of the energies to come."""
    settings = config.evaluation
    scale = _check_evaluator("evaluation.evaluator", settings.evaluator, config)
    if settings.pre_relax:
        _check_pre_relax(store, round_, config, settings.pre_relax)
    if settings.evaluator == "vasp":
        missing = [name for name in VASP_NEEDS[config.dft.emit] if find_spec(name) is None]
        if missing:
            raise UserError(f"evaluation.evaluator: vasp needs {', '.join(missing)}; {EXTRA}")
    return scale


def _check_pre_relax(store: Store, round_: int, config: RoundConfig, name: str) -> None:
    relaxer = evaluator_until(store, round_, name)
    if relaxer is not None:
        _check_evaluator("evaluation.pre_relax", local_evaluator(relaxer), config)
    elif not config.training.potential:
        raise UserError(
            f"evaluation.pre_relax: {name} is what rounds train, and none has; set training.potential = true, or leave "
            "pre_relax out"
        )


def _check_evaluator(key: str, name: str, config: RoundConfig) -> str:
    from dft.evaluators.make import make_evaluator

    try:
        # Reads a potential's files, calls what makes an ASE calculator.
        return make_evaluator(name, config.evaluation.relaxation(), config.dft).scale
    except Exception as error:  # the calculator's function is the user's: it may raise anything
        raise UserError(f"{key}: {name} cannot be used: {error or type(error).__name__}") from error


def _check_generation(config: RoundConfig) -> None:
    from gnome_core.generation.generators import installed_generators

    generation = config.candidates()
    installed = installed_generators()
    for name in generation.generators:
        if name.startswith(FILE):
            _check_candidates(name.removeprefix(FILE))
        elif name not in installed or f"{name}:" == FILE:
            known = ", ".join((*(one for one in installed if f"{one}:" != FILE), f"{FILE}NAME"))
            raise UserError(f"generation.generators: {name!r} is not installed; there is: {known}")
    if not generation.generators:
        raise UserError(f"generation.generators: name at least one of {', '.join(installed)}")
    _check_symbols("generation.elements", config.generation.elements, "leave the key out for those of the parents")


def _check_candidates(file: str) -> None:
    """A file of candidates is there, and of a known format."""
    from gnome_core.crystals.readers import SourceError, read_snapshot

    try:
        next(read_snapshot(file), None)
    except SourceError as error:
        raise UserError(f"generation.generators: {error}") from error


def _check_symbols(key: str, symbols: Sequence[str] | None, instead: str) -> None:
    """They are elements, and there is one."""
    unknown = [symbol for symbol in symbols or () if symbol not in NUMBERS]
    if unknown:
        raise UserError(f"{key}: no such element {', '.join(map(repr, unknown))}; write symbols such as Li")
    if symbols is not None and not symbols:
        raise UserError(f"{key}: names no element; {instead}")


def _check_known(config: RoundConfig) -> None:
    """The files of known compositions are there, and hold formulas."""
    from pipelines.reading.known import compositions_of_files

    compositions_of_files(config.generation.known_lists)


def _check_model(config: RoundConfig, scale: str) -> None:
    """A package's model predicts on the evaluator's scale."""
    if config.scoring.model == ENSEMBLE:
        return
    own = make_model(config.scoring.model).scale
    if own not in (None, scale):
        raise UserError(
            f"scoring.model: {config.scoring.model} predicts on {own}, and evaluation.evaluator computes on {scale}; "
            "choose one that goes with the other"
        )


def _check_first_members(config: RoundConfig) -> None:
    """Members that start from those of the package need their network."""
    from gnome_core.models.members import load_member, model_of
    from pipelines.reading.members import local_member, shipped_addresses

    for framework in config.trained:
        _, model, training = config.ensemble_of(framework)
        if training.starts_fresh(0):
            continue
        shipped = local_member(shipped_addresses(framework)[0])
        if model_of(model)[1] != load_member(shipped)[1].network():
            section = "" if framework == "structural" else "compositional."
            raise UserError(
                f"{section}training.first = pretrained goes with the [{section}model] of the members that come with "
                f'the package; leave that table as it is, or set {section}training.first = "scratch"'
            )


def _check_snapshot_elements(config: RoundConfig) -> None:
    """The snapshot holds the elements, without which there is neither a parent nor a reference of them."""
    chosen = config.snapshot_elements
    _check_symbols("snapshot_elements", chosen, "leave the key out for all")
    asked = config.generation.elements or ()
    if chosen is not None and (outside := [symbol for symbol in asked if symbol not in chosen]):
        raise UserError(
            f"generation.elements: {', '.join(outside)} is not in snapshot_elements, {', '.join(chosen)}; add it there "
            "(`gnome init --chemsys`), or leave it out"
        )
    if config.snapshots != ("embedded",):
        return
    from gnome_core.crystals.readers import embedded_elements

    known = embedded_elements()
    for key, symbols in (("snapshot_elements", chosen), ("generation.elements", asked)):
        missing = [symbol for symbol in symbols or () if symbol not in known]
        if missing:
            raise UserError(
                f"{key}: the embedded snapshot holds nothing of {', '.join(missing)}; leave it out, or give a snapshot "
                "that has it"
            )


def _check_members(store: Store, round_: int, config: RoundConfig) -> None:
    """The last round trained what this one predicts with, and starts from."""
    from gnome_core.models.members import load_member, model_of
    from pipelines.reading.members import local_member, member_addresses

    trained = store.commit(round_ - 1, "train")
    if trained is None:
        return  # the first stage that needs it says so
    for framework in config.trained:
        _, model, training = config.ensemble_of(framework)
        members = member_addresses(store, trained, framework)
        section = "" if framework == "structural" else "compositional."
        if not members:
            raise UserError(
                f"framework: round {trained.round} trained no {framework} members, for its framework, or its "
                "scoring.model, was another; go on with that one, or `gnome init` a new store with framework = "
                f'"{config.framework}"'
            )
        last = load_member(local_member(members[0]))[1]
        if not training.starts_fresh(round_) and model_of(model)[1] != last.network():
            raise UserError(
                f"{section}training.init = fine_tune goes with the [{section}model] of round {trained.round}; leave "
                f'that table as it was, or set {section}training.init = "scratch"'
            )


def _check_hull(store: Store, round_: int, config: RoundConfig, scale: str) -> None:
    """The hull takes energies of this scale, and has references: candidates with elements that lack one are rejected
    and counted, but some must be left."""
    from pipelines.reading.committed import entries_until

    entries = entries_until(store, round_ - 1, ["chemsys", "scale"])
    scales = entries["scale"].unique().to_pylist()
    if scale not in scales:
        raise UserError(
            f"evaluation.evaluator: {config.evaluation.evaluator} computes on {scale}, the hull of {store.root} is on "
            f"{', '.join(scales)}; `gnome init` a store with this evaluator, whose snapshot is computed by it"
        )
    known = set(entries["chemsys"].unique().to_pylist())
    elements = config.generation.elements
    if elements and not known & set(elements):
        raise UserError(
            f"generation.elements: {store.root} holds no elemental reference of {', '.join(elements)}; name elements "
            "that it has, or `gnome init` a store with a snapshot that holds them"
        )
