"""Zeros that are not multiplied: layers whose kernels skip them, on the CPU (CSR) and on a GPU (2:4).

A masked layer takes exactly as long as before: its kernel multiplies by zero like by any other number. Skipping zeros
needs another kernel, which pays for looking up where the numbers stand; whether that is worth it has to be measured
(`nnopt_lab.execution_times`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_choice, require_number
from nnopt_lab.pruning.prunable import prunable_layers


class SparseLinear(nn.Module):
    """A linear layer that multiplies only by what is not zero: torch's CSR kernel, for a CPU, without training."""

    weight: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", _csr(linear.weight), persistent=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_features) to (n, out_features)."""
        y = (self.weight @ x.T).T
        return y if self.bias is None else y + self.bias


class SparseConv2d(nn.Module):
    """A convolution as one sparse matrix times the columns of all patches (im2col), for a CPU, without training.

    Laying out the patches copies each pixel once for every weight of the kernel, whatever the sparsity.
    """

    weight: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(
                f"The convolution has groups={conv.groups}, padding={conv.padding!r} and "
                f"padding_mode={conv.padding_mode!r}, but it must have groups=1 and a number of zeros around."
            )
        self.register_buffer("weight", _csr(conv.weight.flatten(1)), persistent=False)
        self.bias = conv.bias
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.padding, self.dilation = conv.padding, conv.dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, height, width) to (n, out_channels, …), as the dense convolution does."""
        height, width = (
            (size + 2 * pad - dilate * (kernel - 1) - 1) // step + 1
            for size, pad, dilate, kernel, step in zip(
                x.shape[2:], self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )
        patches = F.unfold(x, self.kernel_size, dilation=self.dilation, padding=self.padding, stride=self.stride)
        columns = patches.transpose(0, 1).flatten(1)  # (in_channels · kernel, n · positions)
        y = (self.weight @ columns).unflatten(1, (len(x), height, width)).transpose(0, 1)
        return y if self.bias is None else y + self.bias[:, None, None]


def to_sparse(model: nn.Module, *, layers: Iterable[str] | None = None, min_sparsity: float = 0.0) -> nn.Module:
    """Return a copy of ``model`` for evaluation whose layers skip their zeros; the outputs agree to 1e-5.

    Parameters
    ----------
    layers : iterable of str, optional
        Paths of the convolutions and linear layers to replace. Default: all.
    min_sparsity : float
        Replace only layers with at least this share of zeros, 0–1.

    Raises
    ------
    ValueError
        If ``layers`` names no such layer, ``min_sparsity`` is out of range, the model is not on a CPU, or a
        convolution is in groups.
    """
    require_number("min_sparsity", min_sparsity, at_least=0, at_most=1)
    sparse = copy.deepcopy(model).eval().requires_grad_(False)
    known = prunable_layers(sparse)
    chosen = list(known) if layers is None else list(layers)
    for name in chosen:
        require_choice("layers", name, known)
        layer = known[name]
        _require_cpu(layer.weight)
        if 1 - int(layer.weight.count_nonzero()) / layer.weight.numel() < min_sparsity:
            continue
        path, _, key = name.rpartition(".")
        setattr(
            sparse.get_submodule(path),
            key,
            SparseLinear(layer) if isinstance(layer, nn.Linear) else SparseConv2d(layer),
        )
    return sparse


def why_no_two_four() -> str | None:
    """Return why this machine cannot run 2:4 sparse layers, in one sentence; None if it can."""
    if not torch.cuda.is_available():
        return "2:4 sparse kernels run on a GPU of NVIDIA's Ampere generation or later, and there is no GPU here."
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return f"2:4 sparse kernels need a GPU with compute capability 8.0 or higher, and this one has {major}.{minor}."
    return None


def to_two_four(linear: nn.Linear) -> nn.Linear:
    """Return a copy of ``linear`` in half precision on the GPU that reads only the 2 kept of every 4 weights.

    The tensor cores then do half of the multiplications (Mishra et al., 2021, arXiv:2104.08378).

    Raises
    ------
    RuntimeError
        If this machine cannot (see `why_no_two_four`).
    ValueError
        If more than 2 of some 4 consecutive inputs have weights that are not zero, or a side of the weight is not a
        multiple of 64.
    """
    shape = tuple(linear.weight.shape)
    if any(side % 64 for side in shape):
        raise ValueError(f"The weight has shape {shape}, but 2:4 sparse kernels need multiples of 64.")
    if (linear.weight.detach().unflatten(1, (-1, 4)) != 0).sum(2).max() > 2:
        raise ValueError("More than 2 of some 4 consecutive weights are not zero; prune with granularity 'n:m' first.")
    reason = why_no_two_four()
    if reason is not None:
        raise RuntimeError(reason)
    from torch.sparse import to_sparse_semi_structured

    halved = copy.deepcopy(linear).half().cuda().eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "in prototype stage"
        halved.weight = nn.Parameter(to_sparse_semi_structured(halved.weight), requires_grad=False)
    return halved


def _csr(matrix: Tensor) -> Tensor:
    _require_cpu(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "in beta state"
        return matrix.detach().to_sparse_csr()


def _require_cpu(weight: Tensor) -> None:
    if weight.device.type != "cpu":
        raise ValueError(f"The model is on {weight.device}, but the CSR kernels are for the CPU; move it: model.cpu().")
