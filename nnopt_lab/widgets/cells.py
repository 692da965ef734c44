"""Which notebook cell is running, so that running it again replaces what it made before."""

from __future__ import annotations

from typing import Any, Protocol


class Abandonable(Protocol):
    """Something that a cell makes and that goes on working after the cell is done."""

    def abandon(self) -> None:
        """Stop working, for good."""


_made: dict[str, tuple[str, list[Abandonable]]] = {}  # by cell: the execution, and what it made


def current_execution() -> tuple[str, str] | None:
    """Return an identity of the cell that is running and one of this execution of it; None outside a notebook."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell: Any = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    parent = kernel.get_parent()
    # Front ends that do not send a cell's id are recognized by the cell's text.
    code = parent.get("content", {}).get("code", "")
    return parent.get("metadata", {}).get("cellId") or code, parent.get("header", {}).get("msg_id", "")


def register(made: Abandonable) -> None:
    """Keep ``made`` alive for as long as its cell is not run again; abandon what an earlier run of the cell made."""
    execution = current_execution()
    if execution is None:
        return
    cell, identity = execution
    before, things = _made.get(cell, ("", []))
    if before != identity:
        for thing in things:
            thing.abandon()
        things = []
    _made[cell] = identity, [*things, made]
