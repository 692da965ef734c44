"""The articles' training loop as they print it: PIL pictures, one at a time, through a torch DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

from nnopt_lab.arguments import require_integer
from nnopt_lab.clock import LapClock
from nnopt_lab.datasets.image_data import ImageData, Split


class PictureDataset(Dataset):
    """One PIL picture after another through ``transform``, as torchvision's CIFAR10 hands them out."""

    def __init__(self, split: Split, transform: object) -> None:
        self.pictures = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[index])), self.labels[index]


@dataclass(frozen=True)
class ArticleStep:
    """One step of the articles' loop.

    Attributes
    ----------
    step : int
        Steps taken, this one included.
    loss : float
        Of this batch, before the step.
    data_ms, forward_ms, backward_ms, optimizer_ms : float
        Where its time went.
    """

    step: int
    loss: float
    data_ms: float
    forward_ms: float
    backward_ms: float
    optimizer_ms: float


def article_loader(split: Split, *, batch_size: int = 100, num_workers: int = 2, seed: int = 0) -> DataLoader:
    """Return the articles' DataLoader: ToTensor, Normalize(0.5, 0.5), shuffled."""
    from torchvision import transforms  # a slow import that only this loop needs

    require_integer("batch_size", batch_size)
    require_integer("num_workers", num_workers, at_least=0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
    return DataLoader(
        PictureDataset(split, transform),
        batch_size=batch_size,
        shuffle=True,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(seed),
    )


def train_as_the_articles_do(
    model: nn.Module,
    data: ImageData,
    *,
    epochs: int = 2,
    batch_size: int = 100,
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    num_workers: int = 2,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[ArticleStep]:
    """Train ``model`` in place with the articles' loop and recipe, yielding one record a step.

    The body is theirs line by line; the clock's laps between the lines are ours.

    Parameters
    ----------
    num_workers : int
        Processes that prepare batches ahead; 0 prepares them in this one.
    """
    chosen = torch.device(device)
    trainloader = article_loader(data.train, batch_size=batch_size, num_workers=num_workers, seed=seed)
    net = model.to(chosen).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=learning_rate, momentum=momentum)
    step = 0
    for _ in range(require_integer("epochs", epochs)):
        clock = LapClock(chosen)
        for inputs, labels in trainloader:
            inputs, labels = inputs.to(chosen), labels.to(chosen)
            data_ms = clock.lap()
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            forward_ms = clock.lap()
            loss.backward()
            backward_ms = clock.lap()
            optimizer.step()
            optimizer_ms = clock.lap()
            step += 1
            yield ArticleStep(step, loss.item(), data_ms, forward_ms, backward_ms, optimizer_ms)
            clock = LapClock(chosen)
