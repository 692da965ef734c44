"""A generator driven by a thread of its own, with start, pause, resume and stop; no widget is needed."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

READY, RUNNING, PAUSED, FINISHED, STOPPED, FAILED = "ready", "running", "paused", "finished", "stopped", "failed"
ENDED = (FINISHED, STOPPED, FAILED)

SECONDS_TO_EXIT = 3.0
"""How long a closing kernel waits for a step under way before it leaves the thread behind."""


class _Job:
    """What a thread and its owner share. The thread holds no strong reference to the owner."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.state = RUNNING
        self.stopping = False
        self.error: BaseException | None = None
        self.count = 0
        self.active_s = 0.0
        self.thread: threading.Thread | None = None

    def request_stop(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def may_go_on(self) -> bool:
        """Wait while paused; tell whether another item is wanted."""
        with self.changed:
            while self.state == PAUSED and not self.stopping:
                self.changed.wait()
            return not self.stopping

    def end(self, state: str, error: BaseException | None = None) -> None:
        with self.changed:
            self.state, self.error = state, error
            self.changed.notify_all()


_jobs: weakref.WeakSet[_Job] = weakref.WeakSet()


def _stop_all() -> None:
    jobs = [job for job in _jobs if job.state not in ENDED]
    for job in jobs:
        job.request_stop()
    deadline = time.monotonic() + SECONDS_TO_EXIT
    for job in jobs:
        if job.thread is not None and job.thread is not threading.current_thread():
            job.thread.join(max(0.0, deadline - time.monotonic()))


atexit.register(_stop_all)


class BackgroundRun(Generic[Item]):
    """Drives ``make()`` to its end in a thread, one item at a time.

    The thread is a daemon and knows this object only weakly: when the object is gone, the run ends after
    the item under way and its generator is closed. A paused run keeps its generator as it is.

    Parameters
    ----------
    make : callable
        Returns a fresh iterator for each start. It must not refer to this object's owner, or the owner
        can never be forgotten.
    on_item : callable, optional
        Called in the thread with each item.
    on_change : callable, optional
        Called without arguments after each change of `state`, in the thread that caused it.

    Examples
    --------
    >>> run = BackgroundRun(lambda: iter(range(3)))
    >>> run.start()
    >>> run.wait()
    'finished'
    >>> run.count
    3
    """

    def __init__(
        self,
        make: Callable[[], Iterator[Item]],
        *,
        on_item: Callable[[Item], None] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._make = make
        self._on_item = on_item
        self._on_change = on_change
        self._job: _Job | None = None
        self._starting = threading.Lock()

    @property
    def state(self) -> str:
        """``"ready"``, ``"running"``, ``"paused"``, ``"finished"``, ``"stopped"`` or ``"failed"``."""
        return self._job.state if self._job else READY

    @property
    def error(self) -> BaseException | None:
        """What ended a failed run."""
        return self._job.error if self._job else None

    @property
    def count(self) -> int:
        """Items so far."""
        return self._job.count if self._job else 0

    @property
    def active_s(self) -> float:
        """Seconds spent on the items so far; pauses do not count."""
        return self._job.active_s if self._job else 0.0

    def start(self) -> None:
        """Start from a fresh iterator; a run that is stopping is waited for.

        Raises
        ------
        RuntimeError
            If it is under way.
        """
        with self._starting:
            if self._job is not None and self._job.thread is not None:
                if self._job.state not in ENDED and not self._job.stopping:
                    raise RuntimeError(f"The run is {self._job.state}; stop it before starting it again.")
                self._job.thread.join()
            job = self._job = _Job()
            _jobs.add(job)
            weakref.finalize(self, _Job.request_stop, job)
            job.thread = threading.Thread(
                target=_drive, args=(job, self._make, weakref.ref(self)), name="nnopt-lab-run", daemon=True
            )
            job.thread.start()
        self._changed()

    def pause(self) -> None:
        """Hold the run after the item under way; nothing happens unless it is running."""
        self._switch(RUNNING, PAUSED)

    def resume(self) -> None:
        """Go on with a paused run; nothing happens unless it is paused."""
        self._switch(PAUSED, RUNNING)

    def stop(self) -> None:
        """End the run after the item under way and close its generator; returns at once."""
        if self._job is not None:
            self._job.request_stop()

    def wait(self, timeout_s: float | None = None) -> str:
        """Block until the run has ended, or for ``timeout_s`` seconds, and return its state.

        An interrupt (Ctrl-C, or the kernel's) pauses the run and is passed on; `resume` goes on from there.

        Raises
        ------
        RuntimeError
            If it was never started.
        """
        job = self._job
        if job is None:
            raise RuntimeError("The run was never started; call start() before wait().")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while job.state not in ENDED and (deadline is None or time.monotonic() < deadline):
                with job.changed:
                    if job.state not in ENDED:
                        # Short waits let an interrupt through on every system.
                        job.changed.wait(0.2 if deadline is None else max(0.0, min(0.2, deadline - time.monotonic())))
        except KeyboardInterrupt:
            self.pause()
            raise
        if job.state in ENDED and job.thread is not None and job.thread is not threading.current_thread():
            job.thread.join()  # the last on_change is part of the run
        return job.state

    def _switch(self, before: str, after: str) -> None:
        job = self._job
        if job is None:
            return
        with job.changed:
            if job.state != before:
                return
            job.state = after
            job.changed.notify_all()
        self._changed()

    def _deliver(self, item: Item) -> None:
        if self._on_item is not None:
            self._on_item(item)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()


def _drive(job: _Job, make: Callable[[], Iterator[Item]], owner: weakref.ref[BackgroundRun[Item]]) -> None:
    state, error = STOPPED, None
    items: Iterator[Item] | None = None
    try:
        items = make()
        while job.may_go_on():
            began = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                state = FINISHED
                break
            job.count += 1
            job.active_s += time.perf_counter() - began
            run = owner()
            if run is None:
                break
            run._deliver(item)
            del run, item
    except BaseException as failure:  # whatever it is, the owner tells it; a thread's traceback helps nobody
        state, error = FAILED, failure
    try:
        if items is not None and hasattr(items, "close"):
            items.close()
    except Exception as failure:
        state, error = FAILED, error or failure
    job.end(state, error)
    run = owner()
    if run is not None:
        run._changed()
