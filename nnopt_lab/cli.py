"""The command line, ``python -m nnopt_lab``: train, publish, experiment, data, doctor, twins."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from nnopt_lab import __version__

if TYPE_CHECKING:
    from nnopt_lab.training import StepRecord

# The subcommands import what they need themselves: torch alone takes seconds, and --help should not.

PROGRAM = "python -m nnopt_lab"


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 something is wrong, 2 wrong input, 130 interrupted."""
    options = _build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except ImportError as error:
        message = f"{error}; {PROGRAM} doctor tells what is missing"
    except (ValueError, OSError) as error:  # DataError, CheckpointError and TwinError are ValueErrors
        message = str(error)
    except RuntimeError as error:
        from nnopt_lab.training import TrainingDiverged

        if not isinstance(error, TrainingDiverged):
            raise
        message = str(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _build_parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog=PROGRAM, description="The workbook's command line.")
    parser.add_argument("--version", action="version", version=f"nnopt_lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_OneLineParser)

    train = commands.add_parser("train", help="train a named recipe; Ctrl-C stops it, the same command goes on")
    train.add_argument("recipe", nargs="?", metavar="RECIPE", help="see --list")
    train.add_argument("--list", action="store_true", help="name the recipes")
    train.add_argument(
        "--data", metavar="SOURCE", help="auto, cifar10, folder or standin (default: as the recipe says)"
    )
    train.add_argument("--epochs", type=float, help="instead of the recipe's")
    train.add_argument("--seed", type=int, help="of the order of the pictures, and of the first weights")
    train.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/RECIPE")
    train.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="also write event files for TensorBoard")
    train.add_argument(
        "--compile", dest="compiled", action="store_true", help="faster steps after a minute or two of compiling"
    )
    train.set_defaults(run=_train)

    publish = commands.add_parser("publish", help="ship a finished run with the lessons: rounded, measured again")
    publish.add_argument("run_folder", type=Path, metavar="FOLDER", help="such as runs/resnet20")
    publish.add_argument("name", metavar="NAME", help="such as resnet20-cifar10")
    publish.add_argument("--data", metavar="SOURCE", default="auto", help="what the run was trained on")
    publish.add_argument("--output", type=Path, metavar="FOLDER", help="default: data/checkpoints")
    publish.set_defaults(run=_publish)

    experiment = commands.add_parser("experiment", help="run a comparison over seeds and keep its results; resumable")
    experiment.add_argument("name", nargs="?", metavar="NAME", help="see --list")
    experiment.add_argument("--list", action="store_true", help="name the experiments")
    experiment.add_argument("--data", metavar="SOURCE", default="auto", help="auto, cifar10, folder or standin")
    experiment.add_argument("--seeds", type=int, help="how many; default: as the experiment says")
    experiment.add_argument(
        "--compile", dest="compiled", action="store_true", help="faster steps after a minute of compiling for each run"
    )
    experiment.add_argument("--output", type=Path, metavar="FOLDER", help="default: data/results")
    experiment.set_defaults(run=_experiment)

    data = commands.add_parser("data", help="fetch CIFAR-10, verify it, or tell where data is looked for")
    data.add_argument("action", choices=("fetch", "verify", "where"), nargs="?", default="where")
    data.set_defaults(run=_data)

    doctor = commands.add_parser("doctor", help="what is installed, which device, which data, what is wrong")
    doctor.set_defaults(run=_doctor)

    twins = commands.add_parser("twins", help="write the students' notebooks from the solved ones")
    twins.add_argument("only", nargs="*", metavar="NAME", help="beginnings of names, such as 03; default: all")
    twins.add_argument("--check", action="store_true", help="write nothing; exit 1 and tell which cells drift")
    twins.add_argument("--run", dest="execute", action="store_true", help="also execute them and keep the outputs")
    twins.add_argument("--folder", type=Path, default=Path("notebooks"), help="default: notebooks")
    twins.set_defaults(run=_twins)
    return parser


def _train(options: argparse.Namespace) -> int:
    from nnopt_lab.recipes import RECIPES, find_recipe, train

    if options.list:
        width = max(map(len, RECIPES))
        for recipe in RECIPES.values():
            print(f"{recipe.name:{width}}  {recipe.about} ({recipe.settings.epochs:g} epochs)")
        return 0
    if options.recipe is None:
        raise ValueError(f"no recipe is named; choose one of {', '.join(RECIPES)}.")
    recipe = find_recipe(options.recipe)
    changed = {name: getattr(options, name) for name in ("epochs", "seed") if getattr(options, name) is not None}
    settings = replace(recipe.settings, **changed)
    folder = options.output or Path("runs") / recipe.name
    from nnopt_lab import datasets

    data = datasets.load(options.data or recipe.source)
    records = train(recipe, data, folder, settings=settings, compiled=options.compiled)
    if options.tensorboard:
        from nnopt_lab.training.tensorboard import log_to_tensorboard

        records = log_to_tensorboard(records, options.tensorboard)
    with _stop_between_steps() as stop, closing(records):  # type: ignore[type-var]
        progress = Progress(sys.stdout, epochs=settings.epochs)
        for record in records:
            progress.show(record)
            # A run that is complete writes its result; one step less would lose it.
            if stop.is_set() and record.progress < 1:
                progress.finish()
                print(f"stopped at epoch {record.epoch:.2f} of {settings.epochs:g}; run the same command to go on")
                return 130
        progress.finish()
    print(f"{_result_line(folder)}; weights in {folder / 'model.safetensors'}")
    return 0


def _result_line(folder: Path) -> str:
    import json

    result = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return f"test accuracy {result['test_accuracy']:.2%} on {result['test_pictures']:,} pictures of {result['data']}"


class Progress:
    """One line about a run: rewritten in place on a terminal, repeated from time to time in a file.

    Parameters
    ----------
    stream : TextIO
        Where it is written.
    epochs : float
        Of the whole run.
    every_s : float
        Seconds between lines where the line cannot be rewritten.
    """

    def __init__(self, stream: TextIO, *, epochs: float, every_s: float = 10.0) -> None:
        self.stream, self.epochs = stream, epochs
        self.every_s = 0.1 if stream.isatty() else every_s
        self.first: tuple[float, float] | None = None
        self.shown_at = -float("inf")
        self.loss = self.accuracy = self.images_per_s = float("nan")
        self.validation = ""
        self.pending = False

    def show(self, record: StepRecord) -> None:
        """Take in one step, and write the line if it is time."""
        now = time.monotonic()
        self.first = self.first or (now, record.progress)
        for name in ("loss", "accuracy", "images_per_s"):
            old, new = getattr(self, name), getattr(record, name)
            # The mean of about the last twenty steps: single batches jump too much to be read.
            setattr(self, name, new if old != old else 0.95 * old + 0.05 * new)
        if record.validation:
            self.validation = f" · validation {record.validation.accuracy:.1%}"
        self.pending = True
        if now - self.shown_at >= self.every_s or (record.validation and not self.stream.isatty()):
            self.shown_at = now
            self._write(self.line(record, now))

    def line(self, record: StepRecord, now: float) -> str:
        """Return the line for ``record`` at the monotonic time ``now``."""
        began, before = self.first or (now, record.progress)
        gained = record.progress - before
        left = f"{_duration((now - began) / gained * (1 - record.progress))} left" if gained > 0 else "…"
        return (
            f"epoch {record.epoch:.2f} of {self.epochs:g} · loss {self.loss:.3f} · accuracy {self.accuracy:.1%}"
            f"{self.validation} · {self.images_per_s:,.0f} images/s · {left}"
        )

    def finish(self) -> None:
        """End the rewritten line."""
        if self.pending and self.stream.isatty():
            self.stream.write("\n")
            self.stream.flush()

    def _write(self, line: str) -> None:
        self.stream.write(f"\r\x1b[K{line}" if self.stream.isatty() else f"{line}\n")
        self.stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that no step is cut in half; the second interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _publish(options: argparse.Namespace) -> int:
    from nnopt_lab import checkpoints, datasets

    data = datasets.load(options.data)
    shipped = checkpoints.publish(options.run_folder, options.name, data, folder=options.output)
    print(f"{shipped.name}: {shipped.bytes:,} bytes, test accuracy {shipped.test_accuracy:.2%} on {shipped.data}")
    return 0


def _experiment(options: argparse.Namespace) -> int:
    from nnopt_lab.experiments import EXPERIMENTS, results_folder, run_experiment

    if options.list:
        width = max(map(len, EXPERIMENTS))
        for experiment in EXPERIMENTS.values():
            runs = f"{len(experiment.conditions)} × {experiment.seeds} runs"
            print(f"{experiment.name:{width}}  {experiment.about} ({runs})")
        return 0
    if options.name is None:
        raise ValueError(f"no experiment is named; choose one of {', '.join(EXPERIMENTS)}.")
    from nnopt_lab import datasets

    data = datasets.load(options.data)
    folder = options.output or results_folder()
    told = ("changes", "validation_loss", "test_accuracy", "steps", "pictures", "images_per_s", "elapsed_s")
    for row in run_experiment(options.name, data, seeds=options.seeds, compiled=options.compiled, folder=folder):
        shown = {name: row[name] for name in told if name in row}
        print(f"{row['condition']}, seed {row['seed']}: {shown}", flush=True)
    print(f"results in {folder / options.name}.json")
    return 0


def _data(options: argparse.Namespace) -> int:
    if options.action == "fetch":
        from nnopt_lab import datasets

        datasets.load("cifar10", download=True)
    elif options.action == "verify":
        print(_verify())
    else:
        _tell_where()
    return 0


def _verify() -> str:
    """Read the chosen data anew; return one line that says it is whole."""
    from nnopt_lab import datasets

    source = datasets.choose_source()
    if source == "standin":
        raise ValueError(f"there is nothing to verify; fetch CIFAR-10 with: {PROGRAM} data fetch")
    before = os.environ.get("NNOPT_LAB_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["NNOPT_LAB_CACHE"] = empty  # nothing decoded there: every file is read and checked again
        try:
            data = datasets.load(source, quiet=True)
        finally:
            os.environ.pop("NNOPT_LAB_CACHE")
            if before is not None:
                os.environ["NNOPT_LAB_CACHE"] = before
    count = len(data.train) + len(data.validation) + len(data.test)
    return f"{data.label} in {data.origin} is whole: {count:,} pictures of {data.num_classes} classes."


def _tell_where() -> None:
    from nnopt_lab.datasets.cache import cache_folder
    from nnopt_lab.datasets.cifar10 import download_folder, is_downloaded
    from nnopt_lab.doctor import examine_data

    there = "there" if is_downloaded() else "not there"
    print(f"original CIFAR-10  {download_folder()} ({there}; NNOPT_LAB_DOWNLOADS changes the folder)")
    print(f"own pictures       {os.environ.get('NNOPT_LAB_DATA') or 'none: NNOPT_LAB_DATA is not set'}")
    print(f"decoded cache      {cache_folder()} (NNOPT_LAB_CACHE changes it)")
    for finding in examine_data():
        print(f"chosen             {finding.text}")


def _doctor(options: argparse.Namespace) -> int:
    from nnopt_lab.doctor import examine

    findings = examine()
    symbols = {"ok": "✓", "note": "·", "problem": "✗"}
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{symbols[finding.level]} {finding.topic:{width}}  {finding.text}")
    problems = sum(finding.level == "problem" for finding in findings)
    print("Everything needed is there." if not problems else f"{problems} to be put right: see the lines with ✗.")
    return 1 if problems else 0


def _twins(options: argparse.Namespace) -> int:
    from nnopt_lab import twins

    if not options.folder.is_dir():
        raise ValueError(f"--folder is {str(options.folder)!r}, but it must be the folder of the notebooks.")
    if options.check:
        drifting = twins.check_twins(options.folder)
        for line in drifting:
            print(line)
        if not drifting:
            print("Every twin is what its source gives.")
        return 1 if drifting else 0
    written = 0
    for name in twins.write_twins(options.folder, run=options.execute, only=tuple(options.only)):
        print(f"wrote {name}", flush=True)
        written += 1
    if not written:
        print("Nothing to write: every twin is what its source gives.")
    return 0
