"""The curves of a run for TensorBoard, written while the records pass by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from nnopt_lab.training.loop import StepRecord


def log_to_tensorboard(records: Iterable[StepRecord], folder: Path | str) -> Iterator[StepRecord]:
    """Hand ``records`` on unchanged and write them as scalars to ``folder``.

    Wrap the generator of `nnopt_lab.training.fit` in it; closing the one that is returned closes both.

    Raises
    ------
    ImportError
        At once, if TensorBoard is not installed.

    Examples
    --------
    >>> for record in log_to_tensorboard(fit(model, data, settings), "runs/first"):  # doctest: +SKIP
    ...     pass
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(f"TensorBoard is not installed ({error}); run 'pip install tensorboard'.") from error

    def passing() -> Iterator[StepRecord]:
        writer = SummaryWriter(str(folder))
        try:
            for record in records:
                for name, value in _scalars(record).items():
                    writer.add_scalar(name, value, record.step)
                yield record
        finally:
            writer.close()
            if hasattr(records, "close"):
                records.close()

    return passing()


def _scalars(record: StepRecord) -> dict[str, float]:
    scalars = {
        "loss/training": record.loss,
        "accuracy/training": record.accuracy,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "images_per_s": record.images_per_s,
    }
    if record.validation is not None:
        scalars["loss/validation"] = record.validation.loss
        scalars["accuracy/validation"] = record.validation.accuracy
    return scalars
