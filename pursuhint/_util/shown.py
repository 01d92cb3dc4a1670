"""Results as a notebook shows them: one line, a picture, matplotlib axes, a table of pandas."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any

from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Shown", "counted", "draw_matrix"]


class Shown:
    """Base class of results with a short ``repr``, a picture in notebooks, `plot` and `to_frame`.

    A subclass writes `_headline`, `_draw` and `_rows`. Data classes among them need ``repr=False``.
    """

    __slots__ = ()

    def _headline(self) -> str:
        """The result in one line of plain text."""
        raise NotImplementedError

    def _draw(self, axes: Axes) -> None:
        """Draw the result."""
        raise NotImplementedError

    def _rows(self) -> Sequence[dict[str, Any]]:
        """Rows of the table."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._headline()}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        """The line and the picture, which is part of the text: nothing is loaded from elsewhere."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        line = html.escape(self._headline())
        figure = Figure(figsize=(4.8, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        self._draw(figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        picture = base64.b64encode(file.getvalue()).decode("ascii")
        name = html.escape(type(self).__name__)
        image = f'<img alt="{name}: {line}" src="data:image/png;base64,{picture}">'
        return f"<div><p><b>{name}</b>: {line}</p>{image}</div>"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the result with matplotlib.

        Args:
            axes: where to draw; the default is a new figure of pyplot.

        Returns:
            The axes, for titles, limits or ``axes.figure.savefig``.
        """
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(layout="constrained")
        self._draw(axes)
        return axes

    def to_frame(self) -> Any:
        """The result as a ``pandas.DataFrame``.

        Raises:
            PursuhintError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise PursuhintError("to_frame() needs pandas; install it with: pip install pandas") from None
        return pandas.DataFrame(list(self._rows()))


def counted(things: Sized, noun: str) -> str:
    """``"1 seed"`` or ``"3 seeds"``."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def draw_matrix(axes: Axes, values: Any, rows: Sequence[int], columns: Sequence[int]) -> None:
    """A matrix of similarities with its color bar.

    Args:
        axes: where.
        values: of shape (rows, columns). The scale is 0 to 1, wider where values lie outside; NaN is left
            white.
        rows: positions of the layers of the rows, from 1.
        columns: and of the columns.
    """
    import numpy as np

    matrix = np.asarray(values, dtype=float)
    known = matrix[np.isfinite(matrix)]
    low, high = min([0.0, *known]), max([1.0, *known])
    image = axes.imshow(matrix, cmap="viridis", vmin=low, vmax=high, origin="lower")
    for axis, positions in ((axes.yaxis, rows), (axes.xaxis, columns)):
        step = 1 + len(positions) // 13
        axis.set_ticks(range(0, len(positions), step), [str(position) for position in positions[::step]])
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes)
