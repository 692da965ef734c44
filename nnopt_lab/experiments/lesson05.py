"""Lesson 5: what fewer bits cost a trained ResNet-20 in accuracy, without and with training.

Every run begins as the shipped ResNet-20. The seed decides which pictures calibrate, and the order of the pictures in
training and their augmentation.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from torch import nn

from nnopt_lab.datasets.batches import Augmentation
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.experiments.conditions import Compress, Condition, Experiment
from nnopt_lab.packing import quantized_bytes
from nnopt_lab.quantization import calibrate, correct_bias, fold_batch_norm, prepare, weight_grids
from nnopt_lab.sharing import share_weights, tie_weights, untie_weights, write_shared
from nnopt_lab.training import TrainingSettings

AWARE_TRAINING = TrainingSettings(
    epochs=1,
    batch_size=64,
    learning_rate=0.01,
    weight_decay=1e-4,
    augmentation=Augmentation(flip="alternate", shift_pixels=4),
)
FROM_AFAR = replace(AWARE_TRAINING, optimizer="adam", learning_rate=1e-3, weight_decay=0.0)
"""With so few values most weights have far to go: after 100 steps Adam was ahead of SGD on validation pictures."""

CODEBOOK_TRAINING = replace(AWARE_TRAINING, optimizer="adam", learning_rate=5e-4, weight_decay=0.0)
"""A value of a codebook has the summed gradient of all its weights; Adam does not mind."""


def quantize(
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    scheme: str = "uniform",
    per_channel: bool = True,
    weight_observer: str = "minmax",
    observer: str = "minmax",
    corrected: bool = False,
    keep: tuple[str, ...] = (),
) -> Compress:
    """Return what folds batch norm into a network that is not to be trained, rounds weights, and calibrates.

    Without activations to quantize, batch norm stays, for the training that follows.
    """

    def compress(model: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, None]:
        folded = fold_batch_norm(model) if activation_bits is not None else model
        prepared = prepare(
            folded,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            scheme=scheme,
            per_channel=per_channel,
            observer=weight_observer,
            keep=keep,
        )
        if activation_bits is not None:
            calibrate(prepared, data, observer=observer, seed=seed)
        if corrected:
            correct_bias(prepared, data, seed=seed)
        return prepared, None

    return compress


def share(*, bits: int) -> Compress:
    """Return what lets the weights of each layer share 2^bits values, which are then trained."""

    def compress(model: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, None]:
        return tie_weights(model, share_weights(model, bits=bits, seed=seed)), None

    return compress


def bytes_if_packed(model: nn.Module) -> int:
    """Return the size of the file of a network whose weights are on grids."""
    return quantized_bytes(model, weight_grids(model))


def bytes_if_shared(tied: nn.Module) -> int:
    """Return the size of the file of a network with codebooks: indices, Huffman-coded, codebooks, and all the rest."""
    with tempfile.TemporaryDirectory() as folder:
        return write_shared(Path(folder) / "shared", *untie_weights(tied))


ENDS = ("conv1", "fc")
"""The first and the last layer hold 1,072 of 270,896 weights; at 1 or 2 bits they stay as they are, as is usual."""

_SHIPPED = {"model": "resnet20", "start": "resnet20"}
_STATIC = _SHIPPED | {"settings": None, "stored_bytes": bytes_if_packed}
_TRAINED = _SHIPPED | {"settings": AWARE_TRAINING, "stored_bytes": bytes_if_packed}

STATIC = (
    Condition(name="float32", **_SHIPPED, settings=None),
    Condition(
        name="8 bits, per tensor", compress=quantize(weight_bits=8, activation_bits=8, per_channel=False), **_STATIC
    ),
    Condition(name="8 bits, per channel", compress=quantize(weight_bits=8, activation_bits=8), **_STATIC),
    Condition(
        name="4 bits, per tensor", compress=quantize(weight_bits=4, activation_bits=4, per_channel=False), **_STATIC
    ),
    Condition(name="4 bits, per channel", compress=quantize(weight_bits=4, activation_bits=4), **_STATIC),
    Condition(
        name="4 bits, per channel, MSE",
        compress=quantize(weight_bits=4, activation_bits=4, weight_observer="mse", observer="mse"),
        **_STATIC,
    ),
    Condition(
        name="4 bits, per channel, MSE, biases corrected",
        compress=quantize(weight_bits=4, activation_bits=4, weight_observer="mse", observer="mse", corrected=True),
        **_STATIC,
    ),
)

WEIGHTS = (
    Condition(name="dense, trained on", **_SHIPPED, settings=AWARE_TRAINING),
    Condition(name="4-bit weights, aware training", compress=quantize(weight_bits=4), **_TRAINED),
    Condition(
        name="4-bit weights, shared",
        compress=share(bits=4),
        **_SHIPPED,
        settings=CODEBOOK_TRAINING,
        stored_bytes=bytes_if_shared,
    ),
    Condition(
        name="2-bit weights, aware training",
        compress=quantize(weight_bits=2, weight_observer="mse", keep=ENDS),
        **_TRAINED | {"settings": FROM_AFAR},
    ),
    Condition(
        name="binary weights",
        compress=quantize(scheme="binary", keep=ENDS),
        **_TRAINED | {"settings": replace(FROM_AFAR, epochs=2, learning_rate=2e-3)},
    ),
)

EXPERIMENTS = (
    Experiment(
        name="lesson05_static",
        about="ResNet-20 with batch norm folded, and weights and activations of 8 or 4 bits; nothing is trained",
        conditions=STATIC,
    ),
    Experiment(
        name="lesson05_weights",
        about="ResNet-20 with weights of few bits after one epoch of training (binary: two), and a control",
        conditions=WEIGHTS,
        seeds=1,
    ),
)
