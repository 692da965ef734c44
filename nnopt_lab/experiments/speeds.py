"""How fast ResNet-20 trains with each way of computing: layout, number format, compilation."""

from __future__ import annotations

from dataclasses import replace

import torch

from nnopt_lab import models
from nnopt_lab.datasets.batches import Augmentation
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.experiments.conditions import Experiment, Variant
from nnopt_lab.measuring import time_parts
from nnopt_lab.training import TrainingSettings

CPU_VARIANTS = (Variant(name="channels first"), Variant(name="channels last", channels_last=True))

GPU_VARIANTS = (
    *CPU_VARIANTS,
    Variant(name="+ bfloat16 autocast", channels_last=True, precision="bfloat16"),
    Variant(name="+ compiled", channels_last=True, precision="bfloat16", compiled=True),
)


def measure_speeds(
    data: ImageData,
    variants: tuple[Variant, ...],
    *,
    device: torch.device | str,
    steps: int,
    batch_size: int | None = None,
) -> list[dict[str, object]]:
    """Time ResNet-20's training step, data and augmentation included, in each variant.

    Parameters
    ----------
    steps : int
        Timed after a warm-up, in which a compiled variant compiles.
    batch_size : int, optional
        Pictures a step; default 128 on a CPU and 512 on a GPU.

    Returns
    -------
    list of dict
        ``condition``, ``seed`` (0), ``images_per_s`` and the four parts in ms, as in an experiment's rows.
    """
    size = batch_size or (128 if torch.device(device).type == "cpu" else 512)
    base = TrainingSettings(epochs=1, batch_size=size, augmentation=Augmentation())
    rows: list[dict[str, object]] = []
    for variant in variants:
        model = models.build("resnet20", num_classes=data.num_classes)
        if variant.compiled:
            model.compile()
        settings = replace(base, channels_last=variant.channels_last, precision=variant.precision)
        parts = time_parts(model, data, settings, device=device, steps=steps, warmup=max(1, steps // 4))
        times = {f"{name}_ms": round(value, 3) for name, value in parts.as_dict().items()}
        rows.append(
            {
                "condition": variant.name,
                "seed": 0,
                "images_per_s": round(parts.images_per_s, 1),
                "batch_size": size,
                **times,
            }
        )
    return rows


EXPERIMENTS = (
    Experiment(
        name="lesson03_gpu",
        about="ResNet-20's training rate on a GPU: layout, number format, compilation",
        conditions=GPU_VARIANTS,
        seeds=1,
    ),
)
