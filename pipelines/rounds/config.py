"""round.toml: every setting of a round, checked when it is read and fixed for the round when it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from dft.config import DftConfig
from dft.names import NEWEST, POTENTIAL_KINDS, check_name, is_engine
from gnome_core.crystals.split import Holdout
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.plugins import ENSEMBLE, check_model, make_model
from gnome_core.generation.config import FILE, SHIPPED, GenerationConfig
from gnome_core.models.config import CompositionalConfig, ModelConfig, StructuralConfig
from gnome_core.models.shipped import Framework
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.default import BEFORE, DEFAULT, meant
from gnome_core.settings import Section
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.potential.config import PotentialTrainingConfig
from pipelines.errors import StoreError, UserError
from pipelines.rounds.plan import stages_of
from pipelines.rounds.potential_config import RoundPotentialConfig
from pipelines.rounds.toml import parse_settings, read_toml

if TYPE_CHECKING:  # settings are read in a moment, without pyarrow
    from pipelines.store.store import Store

SEARCH = "random_search"  # the generator of the compositional framework
LEAST_SEARCHED = 100  # compositions that were searched, below which they alone teach nothing


class ScoringConfig(Section):
    """How candidates are scored."""

    model: Annotated[str, AfterValidator(check_model)] = Field(
        ENSEMBLE,
        description="ensemble: the networks that rounds train | the name of an installed package's model (entry point "
        "of gnome.models), which scores crystals in their place; none are trained then, and the cascade has no part",
    )
    model_identity: str | None = Field(
        None, description="what that model says of itself; filled in when a round starts, which goes on with no other"
    )
    members: int = Field(10, ge=1, le=1000, description="models in the ensemble")
    over_volumes: Literal["minimum", "median"] = Field(
        "median",
        description="a member's energy over 20 volumes: minimum (the paper's; goes with training.volume_jitter = 0) or "
        "median (for members trained with jitter, whose minimum picks errors)",
    )
    cascade: CascadeConfig = Field(CascadeConfig(), description="cheap predictions before dear ones")
    max_candidates: int = Field(
        100_000, ge=1, le=10_000_000_000, description="candidates scored a round; a fixed random choice of more"
    )
    sample: Literal["recipes", "compositions"] = Field(
        "recipes",
        description="what that choice draws: recipes, for the most compositions; or compositions, each with all its "
        "recipes, for their ground states",
    )


class SelectionConfig(Section):
    """Which candidates are evaluated."""

    threshold: float = Field(
        0.05, ge=-1e6, le=1e6, description="eV/atom above the hull up to which a candidate may be evaluated"
    )
    kappa: float = Field(0.0, ge=0, le=1e6, description="candidates rank by e_above_hull - kappa * interquartile range")
    budget: int = Field(100, ge=0, le=1_000_000_000, description="candidates chosen by the models")
    random_baseline: int = Field(
        10, ge=0, le=1_000_000_000, description="candidates chosen at random, to compare hit rates with"
    )
    per_formula: int = Field(1, ge=1, le=1_000_000, description="structures of one composition that may be evaluated")
    polymorphs: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="further structures of each composition that the models chose, evaluated beyond the budget to find "
        "its ground state: of all that substitution makes of any parent the lowest predicted, none of them twice",
    )
    random_polymorphs: int = Field(
        0, ge=0, le=1_000_000, description="random structures besides, as generation.random_search makes them"
    )
    cost_budget: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="estimated DFT cost that may be spent as well, in units of the two atoms of silicon",
    )
    rank: Literal["energy", "probability"] = Field(
        "energy",
        description="energy: the lowest first | probability: the likeliest to be truly stable first, by the models' "
        "spread and the evaluator's measured errors; for evaluators that are calibrated, see docs/judges.md",
    )
    by_cost: bool = Field(False, description="rank by the chance of being stable per estimated DFT cost")
    explore: float = Field(
        0.0, ge=0, lt=1, description="share of the budget for the likely candidates that the models disagree on most"
    )
    clustered_per_formula: int = Field(
        100, ge=1, le=1_000_000, description="best structures of a composition that are clustered first"
    )
    per_chemsys: int = Field(
        10, ge=1, le=1_000_000_000, description="candidates of one chemical system that may be evaluated"
    )
    parents_within: float = Field(
        0.1,
        ge=0,
        le=1e6,
        description="eV/atom above the hull up to which an entry is a parent; 0 = the stable ones alone (the paper's)",
    )


def check_evaluator(name: str) -> str:
    """The name of an evaluator of which a hull can be, or a ValueError."""
    if name == NEWEST:
        raise ValueError(
            f"{NEWEST} is another one after each round, and each has an energy scale of its own, on which no hull "
            "would be; it can be evaluation.pre_relax. `gnome init NEW --evaluator potential:STORE --recompute` makes "
            "a store that evaluates by what STORE has trained"
        )
    return check_name(name)


def check_pre_relax(name: str) -> str:
    """The name of an evaluator that relaxes in the worker, or a ValueError."""
    if is_engine(check_name(name)) or name.startswith(("label:", "steps:")):
        raise ValueError(f"{name} cannot relax candidates before they become jobs; embedded or potential:FILE.npz can")
    return name


class EvaluationConfig(RelaxConfig):
    """How chosen candidates are relaxed."""

    evaluator: Annotated[str, AfterValidator(check_evaluator)] = Field(
        "embedded",
        description="embedded: the default, which is chgnet-distilled | chgnet | chgnet-r2scan | nequix-oam-1 | "
        "nequix-oam-1-pft | pretrained | potential:FILE.npz: one of yours | potential:STORE: the last that another "
        "store trained | ase:FILE.py:FUNCTION: an ASE calculator; all in the workers, see docs/judges.md | espresso | "
        "vasp: jobs in folders",
    )
    pre_relax: Annotated[str, AfterValidator(check_pre_relax)] | None = Field(
        None,
        description="embedded | nequix-oam-1 | ...: relax chosen candidates by it before they become jobs, to the same "
        "fmax and within max_steps; what it does not know goes on as proposed; potential:newest: the last one that "
        "training.potential has made here, and until there is one nothing is relaxed; empty = none",
    )
    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="crystals relaxed together; a killed stage repeats at most one batch"
    )

    def relaxation(self) -> RelaxConfig:
        """The settings that decide a result, which job digests depend on."""
        return RelaxConfig(**{name: getattr(self, name) for name in RelaxConfig.model_fields})


class ConfirmConfig(Section):
    """The second opinion that `gnome round run` asks for at its end."""

    by: Annotated[str, AfterValidator(check_evaluator)] | None = Field(
        None, description="the judge, as nequix-oam-1; empty = none. `gnome confirm` asks at any other time"
    )
    top: int | None = Field(None, ge=1, description="the first so many discoveries; empty = all")
    within: float = Field(
        0.0, ge=0, le=1e6, description="eV/atom above the hull up to which new crystals are asked about"
    )
    window: float = Field(
        0.05, ge=0, le=1e6, description="eV/atom above the hull up to which phases of a system compete"
    )


class MemberTrainingConfig(TrainingConfig):
    """How ensemble members are trained on everything labelled so far."""

    first: Literal["pretrained", "scratch"] = Field(
        "pretrained", description="where members of round 0 start: pretrained = from those that come with the package"
    )
    init: Literal["fine_tune", "scratch"] = Field(
        "fine_tune", description="where members of later rounds start: fine_tune = from the last round's"
    )
    fine_tune_epochs: int = Field(10, ge=1, le=100_000, description="epochs of a member that starts from another")
    fine_tune_learning_rate: float = Field(
        1e-3, gt=0, le=1e6, description="learning rate of a member that starts from another"
    )
    replay: int | None = Field(
        None,
        ge=0,
        le=1_000_000_000,
        description="labels of the snapshot and earlier rounds that an epoch draws anew, beside all of the round's, "
        "where a member starts from another; without it, all",
    )

    def settings(self) -> TrainingConfig:
        """The optimisation settings of a member that starts from nothing."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields})

    def starts_fresh(self, round_: int) -> bool:
        """Whether a round's members start from nothing."""
        return (self.init if round_ else self.first) == "scratch"

    def most_replayed(self, round_: int) -> int | None:
        """How many old labels a member can see in all its epochs; None = all."""
        if self.replay is None or self.starts_fresh(round_):
            return None
        return self.replay * self.fine_tune_epochs

    def of_round(self, round_: int) -> TrainingConfig:
        """The optimisation settings of a round's members."""
        return self.settings() if self.starts_fresh(round_) else self.fine_tuning()

    def fine_tuning(self) -> TrainingConfig:
        """The optimisation settings of members that start from others."""
        changed = {"epochs": self.fine_tune_epochs, "learning_rate": self.fine_tune_learning_rate}
        return self.settings().model_copy(update=changed)


class RoundTrainingConfig(MemberTrainingConfig):
    """What a round trains: the structural members, and potentials if they are wanted."""

    potential: bool = Field(
        False, description="whether the train stage also trains potentials on the relaxations' frames; see [potential]"
    )


class CompositionalSettings(Section):
    """The compositional framework: which compositions are searched, its ensemble, and what that learns from."""

    members: int = Field(10, ge=1, le=1000, description="models in the ensemble over compositions")
    threshold: float = Field(
        0.05, ge=-1e6, le=1e6, description="eV/atom above the hull up to which a composition may be searched"
    )
    budget: int = Field(
        100,
        ge=0,
        le=1_000_000_000,
        description="compositions a round, each searched by generation.random_search.structures structures",
    )
    random_baseline: int = Field(
        0, ge=0, le=1_000_000_000, description="compositions chosen at random, to compare hit rates with"
    )
    per_chemsys: int = Field(
        10, ge=1, le=1_000_000_000, description="compositions of one chemical system that may be searched"
    )
    least_converged: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description="converged random structures that a composition's lowest energy needs to be a label",
    )
    snapshot_labels: bool = Field(
        True,
        description="whether compositions of the snapshot, and of crystals made from parents, are labels; false: those "
        f"that were searched alone (the paper's), once there are {LEAST_SEARCHED} of them",
    )
    model: CompositionalConfig = Field(CompositionalConfig(), description="the compositional network")
    training: MemberTrainingConfig = Field(
        MemberTrainingConfig(epochs=80, batch_size=128, volume_jitter=0.0), description="of every compositional member"
    )


class RoundConfig(Section):
    """All settings of a round."""

    seed: int = Field(0, ge=0, lt=2**32, description="same seed and inputs, same rows")
    holdout: Holdout = Field(
        "none",
        description="holdout-v1: train on nothing of the withheld 15 % of chemical systems and generate nothing that "
        "holds one | none: train on them where the snapshot is your own; never on those of the embedded one",
    )
    max_dead_fraction: float = Field(
        0.001, ge=0, le=1, description="rows of a stage that may fail before it is refused"
    )
    framework: Literal["structural", "compositional", "both"] = Field(
        "structural",
        description="structural: candidates are crystals | compositional: formulas, searched with random structures if "
        "they are near the hull ([compositional]) | both",
    )
    snapshot: str | tuple[str, ...] = Field(
        "embedded",
        min_length=1,
        description="known crystals of round 0; what `gnome init --snapshot` was given. A list of several is one "
        "snapshot: of a structure that more than one holds, the lower stays",
    )
    snapshot_elements: tuple[str, ...] | None = Field(
        None,
        description="known crystals of these elements alone, compounds of any of them and the elements; empty = all; "
        "what `gnome init --chemsys Li-P-S-Cl` sets",
    )
    recompute: bool = Field(
        False,
        description="evaluate the snapshot's stable entries and the elements only, so that a hull on another scale is "
        "soon there; what `gnome init --recompute` sets",
    )
    shipped_candidates: bool = Field(
        True,
        description="structural members learn from the evaluated candidates that come with the package as well, where "
        "the energies are on the same scale: of the snapshot's elements, none of a withheld system",
    )
    part_files: int = Field(
        2, ge=1, le=10_000, description="Parquet files a table; about 100,000 rows each is a good size"
    )
    generation: GenerationConfig = Field(GenerationConfig(), description="where candidates come from")
    model: StructuralConfig = Field(StructuralConfig(), description="the structural network")
    scoring: ScoringConfig = Field(ScoringConfig(), description="the ensemble and what it is shown")
    selection: SelectionConfig = Field(SelectionConfig(), description="what is evaluated")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="relaxation of chosen candidates")
    confirm: ConfirmConfig = Field(ConfirmConfig(), description="second opinion of what was found")
    dft: DftConfig = Field(DftConfig(), description="first-principles jobs (espresso, vasp)")
    training: RoundTrainingConfig = Field(RoundTrainingConfig(), description="of every ensemble member")
    potential: RoundPotentialConfig = Field(
        RoundPotentialConfig(), description="potentials that rounds train, where training.potential = true"
    )
    compositional: CompositionalSettings = Field(
        CompositionalSettings(), description="the framework over compositions (`gnome train --framework compositional`)"
    )

    @property
    def snapshots(self) -> tuple[str, ...]:
        """The sources of known crystals."""
        return (self.snapshot,) if isinstance(self.snapshot, str) else self.snapshot

    @property
    def frameworks(self) -> tuple[Framework, ...]:
        """The frameworks that the round runs."""
        return ("structural", "compositional") if self.framework == "both" else (self.framework,)

    @property
    def trained(self) -> tuple[Framework, ...]:
        """The frameworks whose ensembles the round trains: not where a package's model scores crystals."""
        own = self.scoring.model == ENSEMBLE
        return tuple(framework for framework in self.frameworks if own or framework != "structural")

    @property
    def searches(self) -> bool:
        """Whether random structures belong to the compositional framework: a composition is one candidate then."""
        return "compositional" in self.frameworks

    def candidates(self) -> GenerationConfig:
        """What the round generates: where compositions are searched, one recipe stands for each of them."""
        if not self.searches:
            return self.generation
        others = [name for name in self.generation.generators if name != SEARCH and "structural" in self.frameworks]
        one = self.generation.random_search.model_copy(update={"structures": 1})
        return self.generation.model_copy(update={"generators": (*others, SEARCH), "random_search": one})

    def selection_of(self, framework: Framework) -> SelectionConfig:
        """How a framework's candidates are chosen."""
        if framework == "structural":
            return self.selection
        own = self.compositional
        return SelectionConfig(
            threshold=own.threshold,
            budget=own.budget,
            random_baseline=own.random_baseline,
            per_chemsys=own.per_chemsys,
            kappa=self.selection.kappa,
            rank=self.selection.rank,
        )

    def ensemble_of(self, framework: Framework) -> tuple[int, ModelConfig, MemberTrainingConfig]:
        """Number of members, network and training of a framework's ensemble."""
        if framework == "structural":
            return self.scoring.members, self.model, self.training
        return self.compositional.members, self.compositional.model, self.compositional.training

    def most_evaluations(self) -> dict[str, int]:
        """The evaluations that a round may ask for, by what for."""
        own, searched = self.selection, self.compositional
        asked = {}
        if "structural" in self.frameworks:
            asked |= {"chosen": own.budget, "random": own.random_baseline}
            asked["polymorphs"] = own.budget * (own.polymorphs + own.random_polymorphs)
        if self.searches:
            compositions = searched.budget + searched.random_baseline
            asked["random structures"] = compositions * self.generation.random_search.structures
        return {what: n for what, n in asked.items() if n}

    def document(self) -> dict:
        """The settings as plain JSON values."""
        return self.model_dump(mode="json")


def _contradictions(config: RoundConfig) -> Iterator[str]:
    """Settings that are each valid and make no sense together, with what to do instead."""
    structural = "structural" in config.frameworks
    if structural:
        yield from _of_structures(config)
    if config.searches:
        yield from _of_compositions(config)
    elif config.generation.compositions.formulas and SEARCH not in config.generation.generators:
        yield (
            "generation.compositions.formulas are searched by random_search, which generation.generators does not "
            "name; add it there, or take the formulas out"
        )
    if not structural and config.scoring.model != ENSEMBLE:
        yield (
            f"scoring.model = {config.scoring.model} scores crystals, and framework = {config.framework} has none to "
            'score; set framework = "structural" or "both", or leave scoring.model out'
        )
    evaluation = config.evaluation
    if evaluation.pre_relax and meant(evaluation.pre_relax) == meant(evaluation.evaluator):
        yield (
            f"evaluation.pre_relax = {evaluation.pre_relax} is the evaluator itself, which would relax everything "
            "twice; leave pre_relax out, or name a cheaper one"
        )
    if config.potential.training.val_fraction != PotentialTrainingConfig().val_fraction:
        yield (
            f"potential.training.val_fraction = {config.potential.training.val_fraction:g}: in rounds the frames of "
            "those formulas validate on which no member trains, so that none ever trained; leave it out"
        )
    if config.recompute and len(config.snapshots) > 1:
        yield (
            "recompute = true chooses by the labels of one snapshot, which those of another need not be on a scale "
            "with; give one, or leave recompute out"
        )
    if config.dft.vasp.protocol == "aimd":
        yield (
            'dft.vasp.protocol = "aimd" gives no energies for a hull; rounds take "pbe", "bands" or "r2scan", and '
            "`gnome dft aimd STORE FOLDER` makes jobs of molecular dynamics"
        )
    if config.dft.emit == "flows" and evaluation.evaluator == "espresso":
        yield 'dft.emit = "flows" is for vasp; espresso takes "folders" or "tar"'


def _of_structures(config: RoundConfig) -> Iterator[str]:
    selection, training = config.selection, config.training
    if selection.per_formula > selection.clustered_per_formula:
        yield (
            f"selection.per_formula = {selection.per_formula} asks for more structures of a composition than "
            f"selection.clustered_per_formula = {selection.clustered_per_formula} keeps; raise the latter"
        )
    if selection.cost_budget is not None and selection.polymorphs + selection.random_polymorphs:
        yield (
            "selection.cost_budget does not reckon with the structures of selection.polymorphs and random_polymorphs; "
            "leave it out, or them"
        )
    if selection.random_polymorphs and config.searches:
        yield (
            'selection.random_polymorphs: with framework = "both" random structures are those of the compositional '
            "framework; leave it out, or set compositional.budget"
        )
    if config.scoring.over_volumes == "minimum" and training.volume_jitter > 0:
        yield (
            f"scoring.over_volumes = minimum picks the errors of members trained with training.volume_jitter = "
            f'{training.volume_jitter:g}; set over_volumes = "median", or volume_jitter = 0 with training.first = '
            '"scratch"'
        )
    if training.devices > training.batch_size:
        yield (
            f"training.batch_size = {training.batch_size} cannot be divided among training.devices = "
            f"{training.devices}; raise the batch, or take fewer devices"
        )


def _of_compositions(config: RoundConfig) -> Iterator[str]:
    least, structures = config.compositional.least_converged, config.generation.random_search.structures
    if least > structures:
        yield (
            f"compositional.least_converged = {least} can never be reached with "
            f"generation.random_search.structures = {structures}, so no composition would become a label; lower the "
            "first, or raise the second"
        )


def with_absolute_paths(config: RoundConfig) -> RoundConfig:
    """The settings with the files that they name found from any folder: snapshot, potentials, candidates, known
    compositions."""
    found = tuple(map(_absolute_snapshot, config.snapshots))
    snapshot = found[0] if isinstance(config.snapshot, str) else found
    generation = config.generation
    lists = tuple(name if name == SHIPPED else str(Path(name).absolute()) for name in generation.known_lists)
    generators = tuple(
        f"{FILE}{Path(name.removeprefix(FILE)).absolute()}" if name.startswith(FILE) else name
        for name in generation.generators
    )
    generation = generation.model_copy(update={"known": lists or generation.known, "generators": generators})
    placed = config.model_copy(update={"snapshot": snapshot, "generation": generation})
    return _renamed(placed, lambda name: _absolute(name, POTENTIAL_KINDS))


def settled(config: RoundConfig, default: str = DEFAULT) -> RoundConfig:
    """What a round starts with: `with_absolute_paths`, `default` for evaluators that are called `embedded`, and the
    identity of the model that scores its candidates."""
    scoring = config.scoring
    identity = None if scoring.model == ENSEMBLE else make_model(scoring.model).identity
    own = scoring.model_copy(update={"model_identity": identity})
    return _renamed(with_absolute_paths(config).model_copy(update={"scoring": own}), lambda name: meant(name, default))


def _renamed(config: RoundConfig, rename: Callable[[str], str]) -> RoundConfig:
    """The settings with another name wherever an evaluator is named."""
    evaluation, by = config.evaluation, config.confirm.by
    named = {"evaluator": evaluation.evaluator, "pre_relax": evaluation.pre_relax}
    update = {key: name and rename(name) for key, name in named.items()}
    return config.model_copy(
        update={
            "confirm": config.confirm.model_copy(update={"by": by and rename(by)}),
            "evaluation": evaluation.model_copy(update=update),
        }
    )


def _absolute_snapshot(name: str) -> str:
    if name == "embedded" or not Path(name).exists():
        return _absolute(name, ("gnome-csv", "mp-entries"))
    return str(Path(name).absolute())


def _absolute(name: str, kinds: Collection[str]) -> str:
    """KIND:FILE, or ase:FILE.py:FUNCTION, with the file's absolute path where there is such a file; any other name as
    it is."""
    kind, _, file = name.partition(":")
    if kind == "ase" and file.count(":") == 1:
        file, _, function = file.partition(":")
        return f"ase:{Path(file).absolute()}:{function}" if Path(file).is_file() else name
    path = Path(file)  # "label:embedded" is a potential's name, whatever lies in the folder
    if kind == "potential" and ("://" in file or (path / "rounds").is_dir()):
        from pipelines.reading.potentials import potential_of_store  # loads pyarrow

        return f"{kind}:{potential_of_store(file if '://' in file else str(path.absolute()))}"
    if file.startswith("ase:"):
        return f"{kind}:{_absolute(file, kinds)}"
    return f"{kind}:{path.absolute()}" if kind in kinds and path.suffix and path.is_file() else name


def derived_seed(config: RoundConfig, *purpose: object) -> int:
    """A 63-bit seed for one purpose ("train", round, member): unrelated for different purposes."""
    text = "|".join(map(str, (config.seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def load_config(path: str) -> RoundConfig:
    """Read a round.toml. Raises UserError naming the file, the key and the nearest valid key."""
    return parse_config(read_toml(path, "gnome config"), path)


def parse_config(values: dict[str, Any], origin: str) -> RoundConfig:
    """Check plain values, and that they go together. `origin` is named in the UserError."""
    config = parse_settings(RoundConfig, values, origin)
    for wrong in _contradictions(config):
        raise UserError(f"{origin}: {wrong}")
    return config


def load_round_config(store: Store, round_: int) -> RoundConfig:
    """A started round's settings. Raises StoreError where its first stage was run with others."""
    from pipelines.store.digests import json_digest  # loads pyarrow

    document, path = store.round_config(round_), f"{store.root}/rounds/r{round_:04d}/config.json"
    first = store.commit(round_, stages_of(round_)[0])
    if first is not None and first.config != json_digest(document):
        raise StoreError(f"{path} has been changed since {first.key} was run with it; restore it from a copy")
    config = parse_settings(RoundConfig, document, path)  # a round that was begun goes on, whatever is refused by now
    return _renamed(config, lambda name: meant(name, BEFORE))
