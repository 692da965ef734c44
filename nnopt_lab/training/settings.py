"""The hyperparameters of one training run, checked once, and the schedules that torch provides."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.optim import lr_scheduler

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.datasets.batches import NO_AUGMENTATION, Augmentation

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "one_cycle")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Hyperparameters of one run.

    Attributes
    ----------
    epochs : float
        Passes over the training split; fractions are allowed.
    batch_size : int
        Pictures a step.
    learning_rate : float
        The peak of the schedule.
    optimizer : str
        ``"sgd"`` (with ``momentum`` and ``nesterov``), ``"adam"`` or ``"adamw"``.
    schedule : str
        ``"constant"``, ``"step"`` (÷10 at 50% and 75%), ``"cosine"`` or ``"one_cycle"``: linear up
        over the first fifth, then linear down to nearly zero (Smith & Topin, 2019).
    weight_decay : float
        On weights of two or more dimensions only; biases and normalization are left alone.
    label_smoothing : float
        Share of the label spread over all classes (Szegedy et al., 2016, section 7).
    clip_norm : float or None
        Largest allowed gradient norm (Pascanu et al., 2013, algorithm 1).
    augmentation : Augmentation
        What is done to training pictures.
    early_stopping_epochs : int or None
        Stop after this many evaluations without a better validation loss, and put the best weights back.
    evaluate_every_epochs : float
        How often the validation split is evaluated.
    small_image_size, small_image_fraction : int, float
        For the first ``small_image_fraction`` of the run, pictures are shrunk to this side: early
        epochs need less detail and cost less (Howard, 2018, progressive resizing).
    precision : str
        ``"auto"``, ``"float32"`` or ``"bfloat16"``: autocast. Auto is bfloat16 on a GPU that has it,
        else float32.
    seed : int
        Of the order of the pictures and of their augmentation.

    Raises
    ------
    ValueError
        If one is out of range; the message names it, its value and what is allowed.
    """

    epochs: float
    batch_size: int = 128
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    schedule: str = "one_cycle"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    augmentation: Augmentation = field(default=NO_AUGMENTATION)
    early_stopping_epochs: int | None = None
    evaluate_every_epochs: float = 1.0
    small_image_size: int = 32
    small_image_fraction: float = 0.0
    precision: str = "auto"
    channels_last: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("epochs", self.epochs, above=0)
        require_integer("batch_size", self.batch_size)
        require_number("learning_rate", self.learning_rate, above=0)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_number("momentum", self.momentum, at_least=0, below=1)
        require_choice("schedule", self.schedule, SCHEDULES)
        require_number("weight_decay", self.weight_decay, at_least=0)
        require_number("label_smoothing", self.label_smoothing, at_least=0, below=1)
        if self.clip_norm is not None:
            require_number("clip_norm", self.clip_norm, above=0)
        if self.early_stopping_epochs is not None:
            require_integer("early_stopping_epochs", self.early_stopping_epochs)
        require_number("evaluate_every_epochs", self.evaluate_every_epochs, above=0)
        require_integer("small_image_size", self.small_image_size, at_least=16, at_most=32)
        require_number("small_image_fraction", self.small_image_fraction, at_least=0, at_most=1)
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        require_integer("seed", self.seed, at_least=0)

    def as_dict(self) -> dict[str, object]:
        """Return plain values, fit for JSON."""
        return asdict(self)


def learning_rate_factors(schedule: str, total_steps: int) -> torch.Tensor:
    """Return what the peak learning rate is multiplied by at each step, from torch's own schedulers.

    Returns
    -------
    Tensor
        float64, shape (total_steps,), between 0 and 1.

    Examples
    --------
    >>> learning_rate_factors("cosine", 4).round(decimals=2).tolist()
    [1.0, 0.85, 0.5, 0.15]
    """
    require_choice("schedule", schedule, SCHEDULES)
    total_steps = require_integer("total_steps", total_steps)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    if schedule == "constant":
        scheduler: lr_scheduler.LRScheduler = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    elif schedule == "step":
        drops = [max(1, total_steps // 2), max(2, total_steps * 3 // 4)]
        scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=drops, gamma=0.1)
    elif schedule == "cosine":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    elif total_steps < 10:
        # One-cycle needs room to rise; a run of a few steps only falls.
        scheduler = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=total_steps)
    else:
        scheduler = lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=total_steps + 1,
            pct_start=0.2,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=5,
            final_div_factor=40,
        )
    factors = []
    with warnings.catch_warnings():
        # torch reminds users to step the optimizer first; here there is nothing to optimize.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(total_steps):
            factors.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return torch.tensor(factors, dtype=torch.float64)


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return torch's optimizer over two groups: weights with decay, and everything else without."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, nesterov=nesterov)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=(settings.momentum, 0.999))
    return torch.optim.AdamW(groups, lr=rate, betas=(settings.momentum, 0.999))
