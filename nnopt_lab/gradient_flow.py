"""How large activations and gradients are, layer by layer, in a deep network that has not been trained yet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_choice, require_integer, require_number

INITIALIZATIONS = ("small", "xavier", "he", "orthogonal", "large")
ACTIVATIONS = ("sigmoid", "tanh", "relu")
CLASSES = 10


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Sizes in a network of ``depth`` hidden layers and a linear layer to 10 classes behind them.

    Attributes
    ----------
    activation_sizes : ndarray
        float64, shape (depth + 1,): root mean square of the input and of each hidden layer's output.
    gradient_sizes : ndarray
        float64, shape (depth,): root mean square of the loss's gradient with respect to each hidden layer's output.
    weight_gradient_norms : ndarray
        float64, shape (depth + 1,): Euclidean norm of the gradient of each layer's weights, the last one's included.
    total_norm : float
        Norm over all layers before clipping.
    loss : float
        Mean cross-entropy; log(10) ≈ 2.3 is a guess.
    """

    activation_sizes: np.ndarray
    gradient_sizes: np.ndarray
    weight_gradient_norms: np.ndarray
    total_norm: float
    loss: float

    @property
    def first_to_last(self) -> float:
        """The gradient at the first hidden layer over that at the last: it vanishes below 1 and explodes above.

        NaN where nothing comes back from the last layer either.
        """
        first, last = self.gradient_sizes[0], self.gradient_sizes[-1]
        return float(first / last) if last > 0 else math.nan


def measure_gradient_flow(
    *,
    depth: int = 20,
    width: int = 64,
    activation: str = "tanh",
    initialization: str = "xavier",
    examples: int = 64,
    clip_norm: float | None = None,
    seed: int = 0,
) -> GradientFlow:
    """Pass random examples forward and the cross-entropy's gradient back, in NumPy.

    Parameters
    ----------
    depth, width : int
        Hidden layers, up to 200, and units in each, up to 512; the input is as wide.
    activation : str
        ``"sigmoid"``, ``"tanh"`` or ``"relu"``.
    initialization : str
        Standard deviation of the weights: ``"small"`` 0.01; ``"xavier"`` √(2 / (inputs + outputs)) (Glorot & Bengio,
        2010, equation 12); ``"he"`` √(2 / inputs) (He et al., 2015, equation 10); ``"large"`` 1.
        ``"orthogonal"``: random rotations (Saxe et al., 2014). Biases are 0.
    examples : int
        Inputs from a standard normal distribution, with random labels.
    clip_norm : float or None
        Scale the whole gradient down to this norm if it is larger (Pascanu et al., 2013, algorithm 1).
    seed : int
        Of weights, inputs and labels.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    depth = require_integer("depth", depth, at_most=200)
    width = require_integer("width", width, at_most=512)
    require_choice("activation", activation, ACTIVATIONS)
    require_choice("initialization", initialization, INITIALIZATIONS)
    examples = require_integer("examples", examples)
    if clip_norm is not None:
        require_number("clip_norm", clip_norm, above=0)
    rng = np.random.default_rng(require_integer("seed", seed, at_least=0))
    inputs = rng.standard_normal((examples, width))
    labels = np.eye(CLASSES)[rng.integers(CLASSES, size=examples)]
    weights = draw_weights(rng, depth, width, width, initialization)
    (head,) = draw_weights(rng, 1, width, CLASSES, initialization)
    # Sizes may run over to infinity in a network this badly initialized; that is what is shown.
    with np.errstate(all="ignore"):
        outputs, slopes = [inputs], []
        for matrix in weights:
            output, slope = activate(outputs[-1] @ matrix, activation)
            outputs.append(output)
            slopes.append(slope)
        logits = outputs[-1] @ head
        logits -= logits.max(axis=1, keepdims=True)
        log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        loss = -(labels * log_shares).sum() / examples
        pull = (np.exp(log_shares) - labels) / examples  # the gradient with respect to the logits
        norms = [np.linalg.norm(outputs[-1].T @ pull)]
        pull = pull @ head.T
        sizes = []
        for matrix, before, slope in zip(weights[::-1], outputs[-2::-1], slopes[::-1], strict=True):
            sizes.append(_root_mean_square(pull))
            pull = pull * slope
            norms.append(np.linalg.norm(before.T @ pull))
            pull = pull @ matrix.T
        weight_gradient_norms = np.array(norms[::-1])
        total_norm = float(np.linalg.norm(weight_gradient_norms))
        if clip_norm is not None and total_norm > clip_norm:
            weight_gradient_norms *= clip_norm / total_norm
        return GradientFlow(
            activation_sizes=np.array([_root_mean_square(output) for output in outputs]),
            gradient_sizes=np.array(sizes[::-1]),
            weight_gradient_norms=weight_gradient_norms,
            total_norm=total_norm,
            loss=float(loss),
        )


def draw_weights(rng: np.random.Generator, layers: int, inputs: int, outputs: int, initialization: str) -> np.ndarray:
    """Return random matrices, shape (layers, inputs, outputs), as `measure_gradient_flow` describes them."""
    normal = rng.standard_normal((layers, inputs, outputs))
    if initialization == "orthogonal":
        tall = normal if inputs >= outputs else normal.swapaxes(1, 2)
        basis, triangle = np.linalg.qr(tall)
        # QR alone prefers some rotations; the signs of the diagonal make all equally likely (Mezzadri, 2007).
        basis *= np.sign(np.diagonal(triangle, axis1=1, axis2=2))[:, None, :]
        return basis if inputs >= outputs else basis.swapaxes(1, 2)
    deviations = {
        "small": 0.01,
        "xavier": math.sqrt(2 / (inputs + outputs)),
        "he": math.sqrt(2 / inputs),
        "large": 1.0,
    }
    return deviations[initialization] * normal


def activate(sums: np.ndarray, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the activation of ``sums`` and its derivative there, both of the shape of ``sums``."""
    if activation == "relu":
        return np.maximum(sums, 0), (sums > 0).astype(float)
    if activation == "tanh":
        output = np.tanh(sums)
        return output, 1 - output**2
    output = 0.5 * (1 + np.tanh(0.5 * sums))  # the sigmoid, in a form that cannot overflow
    return output, output * (1 - output)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
