"""How much of the bare rate is left with augmentation and live plots, and what the articles' loop reaches."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from nnopt_lab import models
from nnopt_lab.datasets import Augmentation, BatchSource, ImageData
from nnopt_lab.history import Trace
from nnopt_lab.training import StepRecord, TrainingSettings, fit
from nnopt_lab.training.article_loop import train_as_the_articles_do
from nnopt_lab.widgets.live_curves import ACCURACY, LOSS, RATES, LiveCurves, Pacer

BATCH_SIZE = 128


def bare_steps(data: ImageData) -> Iterator[None]:
    """Forward, backward and step on one fixed batch, for ever."""
    model = models.build("resnet20", num_classes=data.num_classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images, labels = BatchSource(data, data.train.take(BATCH_SIZE)).batch(torch.arange(BATCH_SIZE))
    while True:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield


def plain_steps(data: ImageData) -> Iterator[StepRecord]:
    """`fit` with augmentation, undrawn."""
    settings = TrainingSettings(
        epochs=1000, batch_size=BATCH_SIZE, learning_rate=0.01, evaluate_every_epochs=1000, augmentation=Augmentation()
    )
    return fit(models.build("resnet20", num_classes=data.num_classes), data, settings, device="cpu")


class LiveSteps:
    """`fit` with augmentation, drawn as the training panel draws it; counts the time that drawing takes."""

    def __init__(self, data: ImageData) -> None:
        self._records = plain_steps(data)
        self._curves = LiveCurves(
            (LOSS, ACCURACY, RATES), x=lambda r: r.epoch, x_end=1.0, x_label="epoch", title=data.label, alt="Benchmark."
        )
        self._rate = Trace(smoothing=0.9)
        self._pacer = Pacer()
        self.plotting_s = 0.0

    def __iter__(self) -> LiveSteps:
        return self

    def __next__(self) -> None:
        record = next(self._records)
        began = time.perf_counter()
        self._curves.append(record)
        self._rate.append(record.step, record.images_per_s)
        if self._pacer.is_due():
            self._pacer.spend(self._curves.draw)
        self.plotting_s += time.perf_counter() - began


def time_block(steps: Iterator[object], count: int) -> float:
    """Return seconds for ``count`` steps."""
    began = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    return time.perf_counter() - began


def measure(
    data: ImageData, *, rounds: int = 12, block: int = 10, say: Callable[[str], None] = print
) -> dict[str, object]:
    """Measure the loops in short alternating blocks, so that a machine that changes speed changes it for all.

    Returns
    -------
    dict
        Medians of images a second, and of each round's ratio to the bare loop.
    """
    live = LiveSteps(data)
    articles = train_as_the_articles_do(
        models.build("resnet20", num_classes=data.num_classes), data, epochs=1000, batch_size=BATCH_SIZE
    )
    loops: dict[str, Iterator[object]] = {
        "bare": bare_steps(data),
        "plain": plain_steps(data),
        "live": live,
        "articles": articles,
    }
    for steps in loops.values():
        time_block(steps, 3)
    live_began_s, live_total_s = live.plotting_s, 0.0
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, steps in loops.items():
            seconds[name].append(time_block(steps, block))
    live_total_s = sum(seconds["live"])
    articles.close()
    rate = {name: block * BATCH_SIZE / statistics.median(times) for name, times in seconds.items()}
    ratio = {
        name: statistics.median(bare / other for bare, other in zip(seconds["bare"], times, strict=True))
        for name, times in seconds.items()
    }
    share = (live.plotting_s - live_began_s) / live_total_s
    say(f"bare forward + backward + step      {rate['bare']:8.0f} images/s")
    say(f"with augmentation                   {rate['plain']:8.0f} images/s   {ratio['plain']:.3f} of bare")
    say(f"with augmentation and live plots    {rate['live']:8.0f} images/s   {ratio['live']:.3f} of bare   (>= 0.90)")
    say(f"the articles' loop, 2 workers       {rate['articles']:8.0f} images/s   {ratio['articles']:.3f} of bare")
    say(f"live plotting's share of the time   {share:8.2%}                       target <= 2%")
    return {"data": data.label, "batch_size": BATCH_SIZE, "rounds": rounds, "steps_a_block": block,
            "images_per_s": rate, "ratio_to_bare": ratio, "plotting_share": share}  # fmt: skip
