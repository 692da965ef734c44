"""Checks of lesson 3: pictures as numbers, what a convolution costs, a recipe that trains, and the bug clinic."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from nnopt_lab import models
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, channel_statistics
from nnopt_lab.exercises.checking import close, exercise, is_whole, pair, require
from nnopt_lab.experiments.lesson03 import AS_PRINTED
from nnopt_lab.measuring import gradient_norms_by_layer
from nnopt_lab.training import TrainingDiverged, TrainingSettings, evaluate, fit


def _fresh() -> torch.Generator:
    """Return a generator that starts elsewhere each time, so that no table of the tested inputs passes."""
    generator = torch.Generator()
    generator.seed()
    return generator


@exercise(title="The statistics of the pictures", points=2, minutes=8)
def channel_mean_std(answer: Callable[[Tensor], tuple[object, object]]) -> None:
    """``answer(images)`` gives the mean and the standard deviation of each channel, on the scale 0–1."""
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=_fresh())
    images[:, 0] //= 2
    # Pictures of different brightness, so that the deviation within pictures is not that of all pixels.
    images[:, 2] = images[:, 2] // 4 + 4 * torch.arange(40, dtype=torch.uint8)[:, None, None]
    mean, std = (torch.tensor(values) for values in channel_statistics(images))
    per_picture = (images / 255).std(dim=(2, 3)).mean(0)
    means, deviations = pair(answer(images), "return two things: the means and the deviations.")
    require(means is not None and deviations is not None, "None was returned: compute the means and the deviations.")
    got = torch.as_tensor(means)
    require(got.shape != (), "one mean for the whole data set hides that red, green and blue differ; give three.")
    require(
        not (got.shape == (3,) and close(got, 255 * mean, relative=1e-2)),
        "these are on the scale 0–255; divide by 255, because the pictures are normalized after that division.",
    )
    require(
        got.numel() == 3,
        f"your means have shape {tuple(got.shape)}: average over pictures, rows and columns (dimensions 0, 2 and 3).",
    )
    require(
        not close(means, std, relative=1e-3, name="your mean"),
        "the deviations come first; return the means, then the deviations.",
    )
    require(not close(means, mean * 255 / 256, relative=1e-3), "the largest value is 255: divide by 255, not by 256.")
    require(close(means, mean, relative=1e-3), "the means are off; look at the dimensions averaged.")
    require(
        not close(deviations, std**2, relative=1e-3, name="your deviation"),
        "these are variances; the deviation is the square root.",
    )
    require(
        not close(deviations, per_picture, relative=1e-3, name="your deviation"),
        "this is the average of each picture's own deviation; pictures differ from each other too: use all pixels.",
    )
    require(close(deviations, std, relative=1e-3), "the means are right; the deviations are not.")


@exercise(title="The size after a convolution", points=1, minutes=5)
def output_size(answer: Callable[..., int]) -> None:
    """``answer(size, kernel=…, stride=…, padding=…)`` gives the side of the output."""
    draw = random.Random()
    for size, kernel, stride, padding in (
        (32, 5, 1, 0),
        (32, 5, 1, 2),
        (32, 3, 2, 1),
        (31, 2, 2, 0),
        (28, 2, 2, 0),
        (7, 7, 3, 2),
        *((draw.randint(20, 99), draw.randint(3, 9), draw.randint(1, 4), draw.randint(0, 1)) for _ in range(9)),
    ):
        expected = (size + 2 * padding - kernel) // stride + 1
        got = answer(size, kernel=kernel, stride=stride, padding=padding)
        case = f"for size {size}, kernel {kernel}, stride {stride}, padding {padding} torch gives {expected}, not {got}"
        one_side = (size + padding - kernel) // stride + 1
        require(
            one_side == expected or not close(got, one_side),
            f"{case}: padding is added on both sides.",
        )
        require(
            expected == 1 or not close(got, expected - 1),
            f"{case}: a kernel that fits exactly fits once, not zero times (the + 1).",
        )
        require(is_whole(got), f"{case}: a size is a whole number, an int; round down, as torch does.")
        require(close(got, expected, relative=0), f"{case}.")


@exercise(title="What a convolution costs", points=2, minutes=8)
def convolution_cost(answer: Callable[..., tuple[int, int]]) -> None:
    """``answer(in_channels, out_channels, kernel, output_size)`` gives parameters with bias, and MACs."""
    draw = random.Random()
    for in_channels, out_channels, kernel, size in (
        (3, 6, 5, 28),
        (6, 16, 5, 10),
        (16, 32, 3, 16),
        *((draw.randint(3, 32), draw.randint(3, 32), draw.randint(2, 5), draw.randint(8, 24)) for _ in range(5)),
    ):
        weights = in_channels * out_channels * kernel**2
        expected = (weights + out_channels, weights * size**2)
        result = answer(in_channels, out_channels, kernel, size)
        parameters, macs = pair(result, "return two numbers: parameters, multiply–accumulates.")
        case = f"for {in_channels} → {out_channels} channels, kernel {kernel}, output {size}×{size}"
        # Counts are exact: a relative tolerance would let a small wrong term through.
        require(
            not close(parameters, weights, relative=0),
            f"{case} the parameters lack the biases: one for each output channel.",
        )
        require(
            close(parameters, expected[0], relative=0), f"{case} there are {expected[0]} parameters, not {parameters}."
        )
        require(
            not close(macs, weights, relative=0),
            f"{case} every weight is used again at each of the {size}×{size} output positions.",
        )
        require(not close(macs, weights * size, relative=0), f"{case} the output has {size} rows and {size} columns.")
        require(
            not close(macs, 2 * expected[1], relative=0),
            f"{case} a multiplication and the addition after it count as one.",
        )
        require(
            not close(macs, expected[0] * size**2, relative=0),
            f"{case} only the weights multiply; leave the biases out of the multiply–accumulates.",
        )
        require(
            close(macs, expected[1], relative=0), f"{case} there are {expected[1]} multiply–accumulates, not {macs}."
        )


@exercise(title="Flip a batch", points=2, minutes=10)
def random_flip(answer: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    """``answer(images, generator)`` mirrors each picture left to right with probability one half."""
    images = torch.randint(0, 256, (400, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    given, generator = images.clone(), torch.Generator().manual_seed(0)
    result = answer(given, generator)
    require(
        type(result) is Tensor and result.shape == images.shape, "return a tensor of the same shape as the pictures."
    )
    require(torch.equal(given, images), "the pictures that were passed in have changed; make a new tensor.")
    mirrored, upside_down = images.flip(3), images.flip(2)
    same = (result == images).flatten(1).all(1)
    flipped = (result == mirrored).flatten(1).all(1)
    require(
        not (result == upside_down).flatten(1).all(1).any(),
        "some pictures stand on their heads: rows are dimension 2, columns dimension 3.",
    )
    require((same | flipped).all(), "some pictures are neither the original nor its mirror image.")
    share = flipped.float().mean().item()
    require(0 < share < 1, "every picture got the same treatment; draw one random number for each picture.")
    require(0.4 < share < 0.6, f"{share:.0%} were mirrored; with probability one half it should be about half.")
    again = answer(images.clone(), torch.Generator().manual_seed(0))
    require(
        torch.equal(result, again),
        "the same seed gave other pictures; draw from the generator that is passed in.",
    )
    following = answer(images.clone(), generator)
    require(type(following) is Tensor and following.shape == images.shape, "the next batch has another shape.")
    alike = (flipped == (following == mirrored).flatten(1).all(1)).float().mean().item()
    require(
        0.3 < alike < 0.7,
        "batch after batch, the same pictures are mirrored; draw one new number from the generator for each picture.",
    )


@exercise(title="A recipe that trains", points=2, minutes=10, limit_s=180)
def better_recipe(answer: Callable[[], TrainingSettings], data: ImageData) -> None:
    """``answer()`` gives settings with the articles' two epochs that get twice as much right as guessing does."""
    settings = answer()
    require(isinstance(settings, TrainingSettings), "return a TrainingSettings.")
    require(settings.epochs == AS_PRINTED.epochs, f"the budget is {AS_PRINTED.epochs:g} epochs, as in the articles.")
    small = data.with_train_size(5000)
    validation = small.validation.take(500)
    chance = 1 / data.num_classes
    try:
        settings = replace(settings, evaluate_every_epochs=settings.epochs)
        model = models.build("article_cnn", num_classes=data.num_classes)
        steps = sum(1 for _ in fit(model, replace(small, validation=validation), settings))
    except TrainingDiverged as error:
        require(False, f"the training diverged: {error}")
    reached = evaluate(model, small, validation)
    guessing = math.log(data.num_classes)
    require(
        reached.loss < guessing - 0.02,
        f"after {steps} steps the loss is {reached.loss:.2f}, and guessing gives {guessing:.2f}: nothing was learned. "
        + _about_the_steps(settings, small, steps),
    )
    require(
        reached.accuracy > 2 * chance,
        f"on 5,000 pictures your recipe gets {reached.accuracy:.1%} right: it learns, but slowly. "
        f"More than {2 * chance:.0%} is asked for; try more steps (a smaller batch), another rate, or a schedule.",
    )


def _about_the_steps(settings: TrainingSettings, data: ImageData, steps: int) -> str:
    """Say how far the first steps go, next to the weights that they move."""
    if settings.optimizer != "sgd":
        return "Try SGD with momentum, and another rate."
    model = models.build("article_cnn", num_classes=data.num_classes)
    images, labels = BatchSource(data, data.train).batch(torch.arange(min(500, len(data.train))))
    layers = dict(model.named_modules())
    shares = [
        settings.learning_rate / (1 - settings.momentum) * norm / parameters_to_vector(layers[name].parameters()).norm()
        for name, norm in gradient_norms_by_layer(model, images, labels)
    ]
    together = steps * torch.stack(shares).median().item()
    if together < 0.3:
        return f"All steps one way would move a typical layer by {together:.1%} of its weights: they are short."
    return f"All steps one way would move a typical layer by {together:.0%} of its weights: are they too long?"


@exercise(title="Clinic: a missing import", points=1, minutes=2)
def hidden_layer(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """``answer(x, weight)`` is relu(x · weightᵀ)."""
    generator = _fresh()
    x, weight = torch.randn(16, 5, generator=generator), torch.randn(8, 5, generator=generator)
    product = x @ weight.T
    try:
        result = answer(x, weight)
    except NameError as error:
        if error.name not in ("F", "functional", "nn", "np", "torch"):
            raise
        require(False, f"{error}: which line at the top of the file is missing?")
    require(not close(result, product, absolute=1e-5), "the negative values are still there: apply ReLU.")
    require(close(result, product.clamp_min(0), absolute=1e-5), "the result is not relu(x · weightᵀ).")


@exercise(title="Clinic: a log that stays silent", points=2, minutes=8)
def progress_log(answer: Callable[[list[float]], list[tuple[int, float]]]) -> None:
    """``answer(losses)`` gives about ten pairs (batches so far, mean loss since the last), whatever the length."""
    draw = random.Random()
    for count in (500, 450, 37, 6000, 7, draw.randint(100, 3000)):
        scale = draw.uniform(1, 3)
        losses = [scale * math.exp(-i / count) + 0.01 * (i % 7) for i in range(count)]
        lines = answer(list(losses))
        require(isinstance(lines, list | tuple), "return a list of (batches so far, mean loss).")
        require(len(lines) > 0, f"an epoch of {count} batches gave no line at all: 2,000 batches are never reached.")
        require(min(5, count) <= len(lines) <= 20, f"{count} batches gave {len(lines)} lines; about ten are readable.")
        lines = [pair(line, "each line is a pair (batches so far, mean loss).") for line in lines]
        require(all(is_whole(line[0]) for line in lines), "the number of batches so far is a whole number, an int.")
        at = [int(line[0]) for line in lines]  # type: ignore[call-overload]
        require(at[0] > 0, f"the first line stands at batch {at[0]}: count the batches from 1.")
        require(at == sorted(set(at)), "the numbers of batches must rise from line to line.")
        require(
            at[-1] != count - 1 or not close(lines[0][1], sum(losses[: at[0] + 1]) / (at[0] + 1)),
            f"the last line stands at batch {at[-1]} of {count}: count the batches from 1, not from 0.",
        )
        require(
            at[-1] == count,
            f"the last line stands at batch {at[-1]} of {count}: the batches after it are lost. Report the rest too."
            if at[-1] < count
            else f"the last line stands at batch {at[-1]}, but there are only {count}.",
        )
        start = 0
        for end, (_, mean) in zip(at, lines, strict=True):
            expected = sum(losses[start:end]) / (end - start)
            require(
                close(mean, expected, name="a mean loss"),
                f"the mean at batch {end} is {float(mean):.4f}, "
                f"but the batches {start + 1}–{end} average {expected:.4f}: "
                "divide by the number of batches since the last line.",
            )
            start = end


@exercise(title="Clinic: two layers that are one", points=1, minutes=5)
def one_layer(answer: Callable[[nn.Linear, nn.Linear], nn.Linear]) -> None:
    """``answer(first, second)`` gives one linear layer that does what both do, one after the other."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.seed()  # torch.seed() would also change the GPU's
        first, second = nn.Linear(10, 20), nn.Linear(20, 7)
    kept = copy.deepcopy((first, second))
    with torch.no_grad():
        weight, bias = second.weight @ first.weight, second(first.bias)
    result = answer(first, second)
    require(type(result) is nn.Linear, f"return one nn.Linear, not {type(result).__name__}.")
    require(
        (result.in_features, result.out_features) == (10, 7),
        f"it should map 10 to 7 numbers, but it maps {result.in_features} to {result.out_features}.",
    )
    for layer, before in zip((first, second), kept, strict=True):
        require(
            torch.equal(layer.weight, before.weight) and torch.equal(layer.bias, before.bias),
            "the two layers that were passed in have changed.",
        )
    # The numbers in the layer, not its outputs: a hook or another forward() could imitate those.
    require(
        close(result.weight, weight, absolute=1e-5, name="your weight"),
        "the outputs differ from those of the two layers: which product of the two weights does that?",
    )
    require(
        result.bias is not None and not close(result.bias, second.bias, absolute=1e-5, name="your bias"),
        "the weights are right; the first layer's bias also passes through the second layer.",
    )
    require(
        close(result.bias, bias, absolute=1e-5),
        "the weights are right; the bias is what the two layers give for an input of zeros.",
    )


@exercise(title="Clinic: a network with something in between", points=1, minutes=3)
def two_layer_network(answer: Callable[[], nn.Module]) -> None:
    """``answer()`` gives a network 10 → 20 → 10 that no single linear layer can imitate."""
    model = answer()
    require(isinstance(model, nn.Module), "return an nn.Module.")
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    linear.sort(key=lambda layer: layer.in_features)  # a module may name its layers in any order
    require(
        [(layer.in_features, layer.out_features) for layer in linear] == [(10, 20), (20, 10)],
        "keep the two linear layers, 10 → 20 and 20 → 10.",
    )
    first, second = linear
    between: list[Tensor] = []
    a, b = torch.randn(2, 32, 10, generator=_fresh()).to(first.weight)
    with (
        torch.no_grad(),
        first.register_forward_hook(lambda module, inputs, output: between.append(output.clone())),
        second.register_forward_pre_hook(lambda module, inputs: between.append(inputs[0].clone())),
    ):
        model.eval()
        outputs = model(a)
        into_second = between[:]
        require(type(outputs) is Tensor and outputs.shape == (32, 10), "it should map 10 numbers to 10 numbers.")
        require(torch.equal(outputs, model(a)), "in eval mode, the same input should give the same output.")
        # For an affine map f, f(a) + f(b) = f(a + b) + f(0).
        gap = outputs + model(b) - model(a + b) - model(torch.zeros_like(a))
    require(
        gap.abs().max().item() > 1e-4,
        "f(a) + f(b) = f(a + b) + f(0) for all inputs tried: it is still one linear layer; put a nonlinearity between.",
    )
    require(len(into_second) == 2, "call each of the two linear layers once, one after the other.")
    require(
        not torch.equal(*into_second),
        "between the two linear layers there is still nothing, so they are one; put the nonlinearity there.",
    )
