"""Training with any schedule of learning rate and batch size, by turning the controls of a run under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from nnopt_lab.schedules import BatchSizes, Plateau, Schedule
from nnopt_lab.training.loop import Controls, StepRecord


def drive(
    records: Iterator[StepRecord],
    controls: Controls,
    *,
    rates: Schedule | None = None,
    batch_sizes: BatchSizes | None = None,
    plateau: Plateau | None = None,
) -> Iterator[StepRecord]:
    """Yield the records of a run while setting ``controls`` before each of its steps.

    At the end, however it comes, ``controls`` hold again what they held at the beginning. A schedule of two lines::

        controls = Controls.of(settings)
        records = drive(fit(model, data, settings, controls=controls), controls, rates=cosine())

    Parameters
    ----------
    records : iterator of StepRecord
        Of ``fit(model, data, settings, controls=controls)`` with ``settings.schedule="constant"``, not yet begun.
    controls : Controls
        The very object that was given to `fit`; its learning rate is the schedule's peak.
    rates : Schedule, optional
        Factor of the peak rate by progress. Default: 1.
    batch_sizes : BatchSizes, optional
        Pictures a step by progress. Default: as ``controls`` say.
    plateau : Plateau, optional
        Sees each validation loss; its factor multiplies that of ``rates``.
    """
    peak, batch_size = controls.learning_rate, controls.batch_size
    progress = 0.0
    try:
        with closing(records):  # type: ignore[type-var]
            while True:
                factor = (rates(progress) if rates else 1.0) * (plateau.current if plateau else 1.0)
                # `fit` takes no rate of exactly 0; this one moves no weight either.
                controls.learning_rate = max(peak * factor, 1e-30)
                if batch_sizes:
                    controls.batch_size = batch_sizes(progress)
                record = next(records, None)
                if record is None:
                    return
                progress = record.progress
                if plateau and record.validation:
                    plateau.observe(record.validation.loss)
                yield record
    finally:
        controls.learning_rate, controls.batch_size = peak, batch_size
