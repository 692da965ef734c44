"""Showing a widget together with what stands in for it where there is no kernel: a picture and a sentence."""

from __future__ import annotations

import base64
import itertools
import os
from typing import Any

import ipywidgets

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_counter = itertools.count()


class Displayed:
    """Base of what a cell can show: a widget for a live page, a PNG for a page without one, and alt text.

    Subclasses give `view`, `picture` and `alt_text`. ipywidgets 7 displays by ``_ipython_display_`` and
    ipywidgets 8 by ``_repr_mimebundle_``; a bundle made here is the same under both.
    """

    _display_id: str | None = None

    @property
    def view(self) -> ipywidgets.Widget:
        """The widget to show."""
        raise NotImplementedError

    def picture(self) -> tuple[bytes, int, int] | None:
        """Return the current picture as PNG with its width and height in layout pixels, if there is one."""
        raise NotImplementedError

    def alt_text(self) -> str:
        """Return the picture in words."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {
            WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id},
            "text/plain": self.alt_text(),
        }
        metadata: dict[str, Any] = {}
        picture = self.picture()
        if picture is not None:
            png, width, height = picture
            data["image/png"] = base64.b64encode(png).decode()
            metadata["image/png"] = {"width": width, "height": height, "alt": self.alt_text()}
        return data, metadata

    def _ipython_display_(self) -> None:
        from IPython.display import display

        # A display id lets the picture in the notebook's file be replaced when the live one has moved on.
        self._display_id = f"nnopt-lab-{os.getpid()}-{next(_counter)}"
        data, metadata = self._repr_mimebundle_()
        display(data, raw=True, metadata=metadata, display_id=self._display_id)

    def update_displayed(self) -> None:
        """Replace the still picture in the notebook's file by the current one; the widget stays."""
        if self._display_id is None:
            return
        from IPython.display import update_display

        data, metadata = self._repr_mimebundle_()
        update_display(data, raw=True, metadata=metadata, display_id=self._display_id)
