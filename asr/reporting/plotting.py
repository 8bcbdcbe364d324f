"""matplotlib as this package wants it: loaded late, without a display, and SVG that takes the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"         # stands for the page's own text colour in an SVG
BLUE, ORANGE, RED, GREY = "#4179d6", "#dd8a1a", "#d64550", "#8a8f98"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "asr", "text.parse_math": False, "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.axisbelow": True, "axes.grid": True, "grid.alpha": 0.15, "axes.linewidth": 0.6,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.6, "savefig.transparent": True}
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")


def need_matplotlib(what: str) -> None:
    """Load matplotlib for pictures in memory.

    Raises:
        AsrError: it is not installed; `what` needs it.
    """
    try:
        import matplotlib
    except ImportError:
        raise AsrError(f"{what}: needs matplotlib: pip install 'asr[report]'") from None
    matplotlib.use("agg")


@contextmanager
def style(**more: Any) -> Iterator[None]:
    """Figures drawn inside look alike; phones such as `$` are text, not formulas."""
    import matplotlib
    with matplotlib.rc_context(STYLE | more):
        yield


def figure(width: float, height: float, **layout: Any) -> Figure:
    """A figure of so many inches, without pyplot and its list of open figures."""
    from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained", **layout)


def inline_svg(drawn: Figure, name: str) -> str:
    """The figure as an SVG element for the middle of a page.

    Its text is text, in the page's font and colour; its ids begin with `name`, so that they are the page's only ones.
    """
    file = io.StringIO()
    drawn.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(?<=\sid=")|(?<=url\(#)|(?<=xlink:href="#)', f"{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg)
    return svg.replace(INK, "currentColor")


def ink() -> dict[str, str]:
    """The settings by which lines and letters take the page's colour."""
    return dict.fromkeys(INKED, INK)
