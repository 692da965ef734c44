"""The training loop, as a generator of one record a step."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.batches import NO_AUGMENTATION, BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.training.evaluation import Evaluation, evaluate
from nnopt_lab.training.settings import TrainingSettings, build_optimizer, learning_rate_factors
from nnopt_lab.training.state import Position, load_run, save_run


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
    validation: Evaluation | None = None


def fit(
    model: nn.Module,
    data: ImageData,
    settings: TrainingSettings,
    *,
    controls: Controls | None = None,
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
        Values that the caller may change between steps.
    device : optional
        Default: a GPU if there is one.
    checkpoint : path, optional
        File to resume from and save to.
    checkpoint_every_s : float
        Seconds between saves.

    Raises
    ------
    TrainingDiverged
        At the first loss that is not finite; the weights are left as they were before that step.
    ValueError
        If the batch is larger than the training split, or the model has another number of classes.
    CheckpointError
        If ``checkpoint`` is of another model or other settings.
    """
    controls = controls or Controls.of(settings)
    size = len(data.train)
    _check_controls(controls, size)
    chosen = torch.device(device) if device is not None else default_device()
    model = model.to(chosen)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    train = BatchSource(data, data.train, device=chosen, channels_last=settings.channels_last)
    validation = BatchSource(data, data.validation, device=chosen, channels_last=settings.channels_last)
    optimizer = build_optimizer(model, settings)
    factors = learning_rate_factors(settings.schedule, max(1, math.ceil(settings.epochs * size / settings.batch_size)))
    autocast = _autocast(chosen, settings.precision)
    position, best = Position(next_evaluation=min(settings.evaluate_every_epochs, settings.epochs)), None
    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        position, best = load_run(path, model, optimizer, settings=settings.as_dict())
    total = round(settings.epochs * size)

    def save() -> None:
        if path is not None:
            save_run(path, model, optimizer, position, best_weights=best, settings=settings.as_dict())

    saved_at = time.monotonic()
    order_epoch, order = -1, torch.empty(0)
    try:
        while position.epoch * size + position.offset < total:
            began = time.perf_counter()
            model.train()
            _check_controls(controls, size)
            if order_epoch != position.epoch:
                order_epoch, order = position.epoch, _epoch_order(size, settings.seed, position.epoch)
            done = position.epoch * size + position.offset
            indices = order[position.offset : position.offset + controls.batch_size][: total - done]
            generator = _generator(settings.seed, position.epoch, position.offset)
            if settings.augmentation == NO_AUGMENTATION:
                images, labels = train.batch(indices.to(chosen))
            else:
                images, labels = train.augmented_batch(
                    indices, settings.augmentation, epoch=position.epoch, generator=generator
                )
            if done < settings.small_image_fraction * total:
                images = F.interpolate(images, settings.small_image_size, mode="bilinear", antialias=True)
            rate = controls.learning_rate * factors[min(int(done / total * len(factors)), len(factors) - 1)].item()
            _set_hyperparameters(optimizer, rate, controls.momentum)
            with autocast:
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
            loss_value = loss.item()
            if not math.isfinite(loss_value):
                raise TrainingDiverged(
                    f"The loss became {loss_value} at step {position.step + 1} with learning rate {rate:.3g}; "
                    "the weights are those before this step. Try a smaller learning_rate, or clip_norm=1."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf).item()
            optimizer.step()
            position.step += 1
            position.offset += len(indices)
            if position.offset >= size:
                position.epoch, position.offset = position.epoch + 1, 0
            finished = position.epoch * size + position.offset >= total
            record = StepRecord(
                step=position.step,
                epoch=(position.epoch * size + position.offset) / size,
                progress=(position.epoch * size + position.offset) / total,
                loss=loss_value,
                accuracy=(logits.argmax(1) == labels).float().mean().item(),
                learning_rate=rate,
                gradient_norm=norm,
                images_per_s=len(indices) / (time.perf_counter() - began),
            )
            if finished or record.epoch >= position.next_evaluation - 1e-9:
                position.next_evaluation += settings.evaluate_every_epochs
                measured = evaluate(model, data, validation)
                record = replace(record, validation=measured)
                if settings.early_stopping_epochs is not None:
                    if measured.loss < position.best_loss:
                        position.best_loss, position.evaluations_since_best = measured.loss, 0
                        best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                    else:
                        position.evaluations_since_best += 1
            stop_early = (
                settings.early_stopping_epochs is not None
                and position.evaluations_since_best >= settings.early_stopping_epochs
            )
            if (finished or stop_early) and best is not None:
                model.load_state_dict(best)
            if time.monotonic() - saved_at > checkpoint_every_s:
                save()
                saved_at = time.monotonic()
            yield record
            if stop_early:
                break
    finally:
        save()


def default_device() -> torch.device:
    """Return the first GPU (CUDA, then Apple's MPS) or else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _check_controls(controls: Controls, size: int) -> None:
    require_number("learning_rate", controls.learning_rate, above=0)
    require_number("momentum", controls.momentum, at_least=0, below=1)
    require_integer("batch_size", controls.batch_size)
    if controls.batch_size > size:
        raise ValueError(f"batch_size is {controls.batch_size}, but it must be at most {size}, the number of training pictures.")


def _epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=_generator(seed, epoch, -1))


def _generator(seed: int, epoch: int, offset: int) -> torch.Generator:
    # A generator for each place in the run: nothing random has to be saved to resume bit-exactly.
    return torch.Generator().manual_seed(((seed * 1_000_003 + epoch) * 1_000_003 + offset) % 2**63)


def _set_hyperparameters(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "momentum" in group:
            group["momentum"] = momentum
            group["nesterov"] = group["nesterov"] and momentum > 0
        else:
            group["betas"] = (momentum, group["betas"][1])


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    pays = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and pays):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
