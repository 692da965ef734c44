"""The training loop, as a generator of one record a step."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.training.evaluation import Evaluation, evaluate, predict
from nnopt_lab.training.settings import TrainingSettings, build_optimizer, learning_rate_factors
from nnopt_lab.training.state import Position, load_run, save_run
from nnopt_lab.training.step import (
    Batch,
    Objective,
    autocast_for,
    batch_loss,
    buffers_restored_on_error,
    default_device,
    draw_batch,
    epoch_order,
)


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the message says when and at which learning rate."""


@dataclass
class Controls:
    """What may be changed while a run is under way; read before every step.

    Attributes
    ----------
    learning_rate : float
        The schedule's peak.
    momentum : float
        Of SGD, or β₁ of Adam.
    batch_size : int
        Pictures a step.
    """

    learning_rate: float
    momentum: float
    batch_size: int

    @classmethod
    def of(cls, settings: TrainingSettings) -> Controls:
        """Return the values a run with ``settings`` starts from."""
        return cls(settings.learning_rate, settings.momentum, settings.batch_size)


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step did.

    Attributes
    ----------
    step : int
        Steps taken, this one included.
    epoch : float
        Passes over the training split so far.
    progress : float
        Share of the run that is done, 0–1.
    loss, accuracy : float
        Of this step's (augmented) batch, before the step.
    learning_rate : float
        Used in this step.
    gradient_norm : float
        Euclidean norm over all parameters, before clipping.
    images_per_s : float
        Rate of this step, evaluation not counted.
    batch_size : int
        As the controls said; the last batch of an epoch may be smaller.
    validation : Evaluation or None
        Present at the steps at which the validation split was evaluated.
    """

    step: int
    epoch: float
    progress: float
    loss: float
    accuracy: float
    learning_rate: float
    gradient_norm: float
    images_per_s: float
    batch_size: int
    validation: Evaluation | None = None


def fit(
    model: nn.Module,
    data: ImageData,
    settings: TrainingSettings,
    *,
    controls: Controls | None = None,
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] | None = None,
    objective: Objective | None = None,
    after_step: Callable[[nn.Module, float], None] | None = None,
    device: torch.device | str | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_every_s: float = 60.0,
) -> Iterator[StepRecord]:
    """Train ``model`` in place, yielding one record a step.

    Nothing runs ahead of the caller: a caller that stops asking pauses the run, and one that closes the
    generator ends it. With ``checkpoint`` the run is saved there from time to time and at its end or
    interruption, and a later call with the same settings goes on from it, bit for bit.

    Parameters
    ----------
    model : nn.Module
        Maps (n, 3, 32, 32) to logits (n, num_classes). Moved to ``device``.
    data : ImageData
        Training and validation splits; the test split is not looked at.
    settings : TrainingSettings
        Hyperparameters.
    controls : Controls, optional
        Values that the caller may change between steps. Default: those of the checkpoint, else of ``settings``.
    optimizer : callable, optional
        Takes the trainable parameters and returns what trains them, at a rate that `fit` sets before each step,
        instead of ``settings.optimizer`` and its weight decay. Such a run cannot have a checkpoint.
    objective : callable, optional
        Takes the network and a `Batch`, and returns the loss and the network's logits, instead of the cross-entropy
        with the labels. It is not in the checkpoint: a resumed run must be given the same.
    after_step : callable, optional
        Called with the model and the progress, 0–1, after each optimizer step and before any evaluation: it may
        change the weights, as pruning does. What it remembers itself is not in the checkpoint, so it is also called
        when a run is resumed, before the first step, with the model and progress of the last step.
    device : optional
        Default: a GPU if there is one.
    checkpoint : path, optional
        File to resume from and save to.
    checkpoint_every_s : float
        Seconds between saves.

    Raises
    ------
    TrainingDiverged
        At the first loss or gradient that is not finite; the model is left as it was before that step,
        and ``checkpoint`` as it was last saved.
    ValueError
        If the batch is larger than the training split, the model has another number of classes, both
        ``optimizer`` and ``checkpoint`` are given, or ``settings`` ask an ``objective`` for label smoothing.
    CheckpointError
        If ``checkpoint`` is of another model, other settings or other data.
    """
    size = len(data.train)
    total = max(1, round(settings.epochs * size))
    _check_controls(controls or Controls.of(settings), size)
    chosen = torch.device(device) if device is not None else default_device()
    model = model.to(chosen)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    _check_classes(model, data, chosen)
    train = BatchSource(data, data.train, device=chosen, channels_last=settings.channels_last)
    validation = BatchSource(data, data.validation, device=chosen, channels_last=settings.channels_last)
    if optimizer is not None and checkpoint is not None:
        raise ValueError(f"checkpoint is {str(checkpoint)!r}, but it must be None when an optimizer is given.")
    if objective is not None and settings.label_smoothing:
        raise ValueError(f"label_smoothing is {settings.label_smoothing}, but it must be 0 when an objective is given.")
    trainable = (parameter for parameter in model.parameters() if parameter.requires_grad)
    stepper = build_optimizer(model, settings) if optimizer is None else optimizer(trainable)
    factors = learning_rate_factors(settings.schedule, math.ceil(total / settings.batch_size)).tolist()
    autocast = autocast_for(chosen, settings.precision)
    position = Position(next_evaluation=min(settings.evaluate_every_epochs, settings.epochs))
    best: dict[str, Tensor] | None = None
    path = Path(checkpoint) if checkpoint is not None else None
    about = {"settings": settings.as_dict(), "data": {"label": data.label, "training_pictures": size}}
    if path is not None and path.exists():
        saved = load_run(path, model, stepper, about=about)
        position, best = saved.position, saved.best_weights
        controls = controls or (Controls(**saved.controls) if saved.controls else None)
        if after_step is not None:
            after_step(model, (position.epoch * size + position.offset) / total)
    controls = controls or Controls.of(settings)
    patience = settings.early_stopping_epochs or math.inf

    def save() -> None:
        if path is not None:
            save_run(
                path, model, stepper, position, best_weights=best, controls=dataclasses.asdict(controls), about=about
            )

    saved_at, savable = time.monotonic(), True
    order_epoch, order = -1, torch.empty(0)
    try:
        while (done := position.epoch * size + position.offset) < total and position.evaluations_since_best < patience:
            began = time.perf_counter()
            _check_controls(controls, size)
            if order_epoch != position.epoch:
                order_epoch, order = position.epoch, epoch_order(size, settings.seed, position.epoch)
            indices = order[position.offset : position.offset + controls.batch_size][: total - done]
            images, labels = draw_batch(
                train,
                indices,
                settings,
                epoch=position.epoch,
                offset=position.offset,
                shrink=done < settings.small_image_fraction * total,
            )
            rate = controls.learning_rate * factors[int(done / total * len(factors))]
            _set_hyperparameters(stepper, rate, controls.momentum, nesterov=settings.nesterov)
            model.train()
            # An interruption before the weights move is undone; one between here and the end of the evaluation
            # would save half a step, so the file then keeps the last whole one.
            with buffers_restored_on_error(model):
                if objective is None:
                    loss, logits = batch_loss(model, images, labels, settings, autocast)
                else:
                    with autocast:
                        loss, logits = objective(model, Batch(images, labels, indices))
                loss_value = loss.item()
                _check_finite("loss", loss_value, position.step, rate)
                stepper.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf).item()
                _check_finite("gradient norm", norm, position.step, rate)
                savable = False
            stepper.step()
            position.step += 1
            position.offset += len(indices)
            if position.offset >= size:
                position.epoch, position.offset = position.epoch + 1, 0
            done += len(indices)
            if after_step is not None:
                after_step(model, done / total)
            record = StepRecord(
                step=position.step,
                epoch=done / size,
                progress=done / total,
                loss=loss_value,
                accuracy=(logits.argmax(1) == labels).float().mean().item(),
                learning_rate=rate,
                gradient_norm=norm,
                images_per_s=len(indices) / (time.perf_counter() - began),
                batch_size=controls.batch_size,
            )
            if done >= total or record.epoch >= position.next_evaluation - 1e-9:
                position.next_evaluation += settings.evaluate_every_epochs
                measured = evaluate(model, data, validation)
                record = replace(record, validation=measured)
                if settings.early_stopping_epochs is not None:
                    if measured.loss < position.best_loss:
                        position.best_loss, position.evaluations_since_best = measured.loss, 0
                        best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                    else:
                        position.evaluations_since_best += 1
            if best is not None and (done >= total or position.evaluations_since_best >= patience):
                model.load_state_dict(best)
            savable = True
            if time.monotonic() - saved_at > checkpoint_every_s:
                save()
                saved_at = time.monotonic()
            yield record
    except (TrainingDiverged, OSError):
        savable = False  # Not worth keeping, or no room to keep it: what was saved last stays.
        raise
    finally:
        if savable:
            save()


def _check_controls(controls: Controls, size: int) -> None:
    require_number("learning_rate", controls.learning_rate, above=0)
    require_number("momentum", controls.momentum, at_least=0, below=1)
    require_integer("batch_size", controls.batch_size)
    if controls.batch_size > size:
        raise ValueError(
            f"batch_size is {controls.batch_size}, but it must be at most {size}, the number of training pictures."
        )


def _check_classes(model: nn.Module, data: ImageData, device: torch.device) -> None:
    # Before the first loss: on a GPU, a label that has no logit breaks the whole process.
    logits = predict(model, BatchSource(data, data.train.take(1), device=device))
    if logits.ndim != 2 or logits.shape[1] != data.num_classes:
        raise ValueError(
            f"The model returns shape {tuple(logits.shape)}, but {data.label!r} needs (n, {data.num_classes}): "
            "one logit for each class."
        )


def _check_finite(name: str, value: float, steps_before: int, rate: float) -> None:
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"The {name} became {value} at step {steps_before + 1} with learning rate {rate:.3g}; "
            "the weights are those before this step. Try a smaller learning_rate, or clip_norm=1."
        )


def _set_hyperparameters(optimizer: torch.optim.Optimizer, rate: float, momentum: float, *, nesterov: bool) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "momentum" in group:
            group["momentum"] = momentum
            if "nesterov" in group:
                group["nesterov"] = nesterov and momentum > 0
        elif "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
