"""The networks of the lessons. Each ReLU and pooling layer is its own module, as tools that rewrite models need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import IMAGE_SHAPE


class ArticleCNN(nn.Module):
    """The small CNN that the articles train on CIFAR-10: two 5×5 convolutions and three linear layers.

    It is LeNet-5 (LeCun et al., 1998) with ReLU, max pooling and color pictures.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures, shape (n, 3, 32, 32), to logits, shape (n, num_classes)."""
        x = self.pool1(self.relu1(self.conv1(images)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(self.flatten(x)))
        return self.fc3(self.relu4(self.fc2(x)))


class ArticleWideCNN(nn.Module):
    """The wide CNN that the articles prune: two 3×3 convolutions and an 8192 → 1024 linear layer.

    Of its 8.5 million parameters, 8.4 million sit in that one layer.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(64, 128, kernel_size=3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * 8 * 8, 1024)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures, shape (n, 3, 32, 32), to logits, shape (n, num_classes)."""
        x = self.pool1(self.relu1(self.conv1(images)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return self.fc2(self.relu3(self.fc1(self.flatten(x))))


def _norm(channels: int, enabled: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if enabled else nn.Identity()


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut around them (He et al., 2016, figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, batch_norm: bool, shortcuts: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=not batch_norm)
        self.norm1 = _norm(out_channels, batch_norm)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=not batch_norm)
        self.norm2 = _norm(out_channels, batch_norm)
        self.relu2 = nn.ReLU()
        self.has_shortcut = shortcuts
        self.shortcut: nn.Module = nn.Identity()
        if shortcuts and (stride != 1 or in_channels != out_channels):
            layers = [
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=not batch_norm),
                _norm(out_channels, batch_norm),
            ]
            if stride > 1 and in_channels < 8:
                # torch 2.15 on a CPU writes past its memory in the backward pass of a strided 1×1 convolution of
                # fewer than 8 channels in channels-last layout; picking the pixels first is the same function.
                layers[0] = nn.Conv2d(in_channels, out_channels, 1, bias=not batch_norm)
                layers.insert(0, nn.MaxPool2d(1, stride=stride))
            self.shortcut = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        if self.has_shortcut:
            y = y + self.shortcut(x)
        return self.relu2(y)


class ResNet(nn.Module):
    """The CIFAR residual network of He et al. (2016, section 4.2), with 1×1 projections where shapes change.

    Parameters
    ----------
    depth : int
        6n + 2 for n blocks a stage: 8, 14, 20, 32, 44, 56, 110.
    width : int
        Channels of the first stage; the next two have twice and four times as many.
    batch_norm, shortcuts : bool
        Switch either off to see what it is there for.

    Raises
    ------
    ValueError
        If ``depth`` is not 6n + 2 or ``width`` is not positive.
    """

    def __init__(
        self,
        *,
        depth: int = 20,
        width: int = 16,
        num_classes: int = 10,
        batch_norm: bool = True,
        shortcuts: bool = True,
    ) -> None:
        super().__init__()
        require_integer("width", width)
        require_integer("num_classes", num_classes, at_least=2)
        require_integer("depth", depth, at_least=8)
        if (depth - 2) % 6:
            raise ValueError(f"depth is {depth}, but it must be 6n + 2: 8, 14, 20, 26, 32, 38, 44, 50, 56, …")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=not batch_norm)
        self.norm1 = _norm(width, batch_norm)
        self.relu1 = nn.ReLU()
        channels = width
        for stage in range(3):
            out_channels = width * 2**stage
            layers: list[nn.Module] = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    ResidualBlock(channels, out_channels, stride=stride, batch_norm=batch_norm, shortcuts=shortcuts)
                )
                channels = out_channels
            self.add_module(f"stage{stage + 1}", nn.Sequential(*layers))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures, shape (n, 3, 32, 32), to logits, shape (n, num_classes)."""
        x = self.relu1(self.norm1(self.conv1(images)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.flatten(self.pool(x)))


class PooledBlock(nn.Module):
    """Convolution, pooling, convolution, each normalized: the block of `TeacherCNN`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        for conv in (self.conv1, self.conv2):
            # The first channels start as the identity: depth costs nothing at first (Zagoruyko & Komodakis, 2017).
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.pool(self.conv1(x))))
        return self.relu2(self.norm2(self.conv2(x)))


class TeacherCNN(nn.Module):
    """A strong, shallow network that trains fast: six wide 3×3 convolutions behind a 2×2 whitening layer.

    The layout follows Jordan (2024), "94% on CIFAR-10 in 3.29 seconds on a single GPU", with ReLU in
    place of GELU and, by default, three quarters of its width. Call `whiten` on some training pictures before training.
    """

    LOGIT_SCALE = 1 / 9

    def __init__(self, *, width: int = 48, num_classes: int = 10) -> None:
        super().__init__()
        require_integer("width", width)
        whitened = 2 * 3 * 2 * 2  # each principal direction of a 2×2 color patch, with both signs
        self.whitening = nn.Conv2d(3, whitened, 2, bias=True)
        self.relu1 = nn.ReLU()
        self.block1 = PooledBlock(whitened, width)
        self.block2 = PooledBlock(width, 4 * width)
        self.block3 = PooledBlock(4 * width, 4 * width)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * width, num_classes, bias=False)

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Set the first layer to decorrelate 2×2 patches of ``images``, shape (n, 3, 32, 32), normalized."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))
        self.whitening.weight.requires_grad_(False)
        self.whitening.bias.zero_()  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures, shape (n, 3, 32, 32), to logits, shape (n, num_classes)."""
        x = self.relu1(self.whitening(images))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.flatten(self.pool(x))) * self.LOGIT_SCALE


MODELS: dict[str, Callable[..., nn.Module]] = {
    "article_cnn": ArticleCNN,
    "article_wide_cnn": ArticleWideCNN,
    "resnet8": lambda **options: ResNet(depth=8, **options),
    "resnet20": lambda **options: ResNet(depth=20, **options),
    "teacher": TeacherCNN,
}


def build(name: str, *, seed: int = 0, **options: object) -> nn.Module:
    """Build a network by name, with weights drawn from ``seed`` and the global random state left alone.

    Raises
    ------
    ValueError
        If ``name`` is unknown; the message names the nearest and all others. If ``seed`` is negative.
    """
    require_choice("model", name, MODELS)
    require_integer("seed", seed, at_least=0)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs' generators too.
        torch.default_generator.manual_seed(seed)
        return MODELS[name](**options)


@dataclass(frozen=True)
class ModelSize:
    """What a network holds and what one picture costs it.

    Attributes
    ----------
    parameters : int
        Trainable or not, without buffers.
    nonzero_parameters : int
        Those that are not exactly 0.
    macs : int
        Multiply–accumulates of convolutions and linear layers for one picture.
    """

    parameters: int
    nonzero_parameters: int
    macs: int


@torch.no_grad()
def count(model: nn.Module, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> ModelSize:
    """Count parameters by looking and multiply–accumulates by running one picture."""
    parameters = list(model.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    was_training = model.training
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *image_shape, device=device))
    finally:
        model.train(was_training)
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero_parameters=sum(int(parameter.count_nonzero()) for parameter in parameters),
        macs=counter.get_total_flops() // 2,
    )
