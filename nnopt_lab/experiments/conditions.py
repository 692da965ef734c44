"""What an experiment is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from nnopt_lab.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One thing that is tried: a network, its settings and how much data it gets (None: all)."""

    name: str
    model: str
    settings: TrainingSettings
    model_options: dict[str, object] = field(default_factory=dict)
    training_pictures: int | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of computing the same training step: memory layout, number format, compiled or not."""

    name: str
    channels_last: bool = False
    precision: str = "float32"
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Conditions that are compared on the same data over the same seeds (or variants that are timed, once)."""

    name: str
    about: str
    conditions: tuple[Condition, ...] | tuple[Variant, ...]
    seeds: int = 3
