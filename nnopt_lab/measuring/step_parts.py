"""Where the time of one training step goes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.clock import LapClock
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.training.article_loop import train_as_the_articles_do
from nnopt_lab.training.settings import TrainingSettings, build_optimizer
from nnopt_lab.training.step import autocast_for, batch_loss, default_device, draw_batch, epoch_order


@dataclass(frozen=True)
class StepParts:
    """Median time of each part of a training step.

    Attributes
    ----------
    data_ms : float
        Until the augmented, normalized batch is on the device.
    forward_ms, backward_ms, optimizer_ms : float
        Logits and loss; gradients and their norm; the update.
    batch_size, steps : int
        Pictures a step, and steps that were timed.
    device : str
        Where it ran.
    threads : int
        That torch used on the CPU.
    """

    data_ms: float
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    batch_size: int
    steps: int
    device: str
    threads: int

    @property
    def total_ms(self) -> float:
        """The sum of the parts."""
        return self.data_ms + self.forward_ms + self.backward_ms + self.optimizer_ms

    @property
    def images_per_s(self) -> float:
        """Pictures a second, from the sum of the parts."""
        return 1000 * self.batch_size / self.total_ms

    def as_dict(self) -> dict[str, float]:
        """Return the four times in ms by the name of the part."""
        return {
            "data": self.data_ms,
            "forward": self.forward_ms,
            "backward": self.backward_ms,
            "optimizer": self.optimizer_ms,
        }


def time_parts(
    model: nn.Module,
    data: ImageData,
    settings: TrainingSettings,
    *,
    steps: int = 20,
    warmup: int = 3,
    device: torch.device | str | None = None,
) -> StepParts:
    """Time the parts of the steps that `nnopt_lab.training.fit` takes; the weights are put back afterwards.

    Pictures have their full size, also where ``settings`` shrinks them at first.

    Raises
    ------
    ValueError
        If ``steps`` is below 1 or the training split smaller than one batch.
    """
    require_integer("steps", steps)
    require_integer("warmup", warmup, at_least=0)
    size = len(data.train)
    require_integer("batch_size", settings.batch_size, at_most=size)
    chosen = torch.device(device) if device is not None else default_device()
    model = model.to(chosen)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    source = BatchSource(data, data.train, device=chosen, channels_last=settings.channels_last)
    optimizer = build_optimizer(model, settings)
    autocast = autocast_for(chosen, settings.precision)
    order = epoch_order(size, settings.seed, 0)
    laps: list[tuple[float, ...]] = []
    with _weights_put_back(model):
        model.train()
        for step in range(warmup + steps):
            offset = step * settings.batch_size % (size - settings.batch_size + 1)
            clock = LapClock(chosen)
            indices = order[offset : offset + settings.batch_size]
            images, labels = draw_batch(source, indices, settings, epoch=0, offset=offset, shrink=False)
            data_ms = clock.lap()
            loss, _ = batch_loss(model, images, labels, settings, autocast)
            forward_ms = clock.lap()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
            backward_ms = clock.lap()
            optimizer.step()
            laps.append((data_ms, forward_ms, backward_ms, clock.lap()))
    return _summarize(laps[warmup:], settings.batch_size, chosen)


def time_article_parts(
    model: nn.Module,
    data: ImageData,
    *,
    batch_size: int = 100,
    num_workers: int = 2,
    steps: int = 20,
    warmup: int = 3,
    device: torch.device | str | None = None,
) -> StepParts:
    """Time the parts of the articles' loop, by default with the two workers that they print; the weights are put back.

    With ``num_workers`` above 0, ``data_ms`` is the mean wait for a batch that other processes prepare: waits come in
    turns of long and short, of which a median shows only one kind. Those processes begin with batches in stock, so
    ``warmup`` should use them up (two for each).

    Raises
    ------
    ValueError
        If an epoch has fewer than ``warmup + steps`` full batches: a new epoch starts its workers anew.
    """
    require_integer("steps", steps)
    require_integer("warmup", warmup, at_least=0)
    require_integer("batch_size", batch_size, at_most=len(data.train) // (warmup + steps))
    chosen = torch.device(device) if device is not None else default_device()
    taken = train_as_the_articles_do(
        model, data, epochs=1, batch_size=batch_size, num_workers=num_workers, device=chosen
    )
    with _weights_put_back(model), closing(taken) as records:
        laps = [
            (record.data_ms, record.forward_ms, record.backward_ms, record.optimizer_ms)
            for record in itertools.islice(records, warmup, warmup + steps)
        ]
    parts = _summarize(laps, batch_size, chosen)
    return replace(parts, data_ms=fmean(lap[0] for lap in laps)) if num_workers else parts


@contextmanager
def _weights_put_back(model: nn.Module) -> Iterator[None]:
    # Not a copy to begin with: a copy of a compiled model is not compiled.
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    was_training = model.training
    try:
        yield
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        model.train(was_training)


def _summarize(laps: list[tuple[float, ...]], batch_size: int, device: torch.device) -> StepParts:
    parts = [median(times) for times in zip(*laps, strict=True)]
    return StepParts(*parts, batch_size, len(laps), str(device), torch.get_num_threads())
