"""Pictures in memory: `load` gives training, validation and test splits of whatever data there is."""

from nnopt_lab.datasets.batches import NO_AUGMENTATION, Augmentation, BatchSource
from nnopt_lab.datasets.image_data import CIFAR10_CLASSES, DataError, ImageData, Split, channel_statistics
from nnopt_lab.datasets.loading import SOURCES, choose_source, describe, load
from nnopt_lab.datasets.standin import STANDIN_LABEL

__all__ = [
    "CIFAR10_CLASSES",
    "NO_AUGMENTATION",
    "SOURCES",
    "STANDIN_LABEL",
    "Augmentation",
    "BatchSource",
    "DataError",
    "ImageData",
    "Split",
    "channel_statistics",
    "choose_source",
    "describe",
    "load",
]
