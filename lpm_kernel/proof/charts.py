"""Charts as inline SVG: text in the page's font, ink in the page's colours, a width that the page decides.

The page defines --soft, --line, --accent and --second; where it does not, the ink is the colour of its text.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, TEXT = 320, 210, 12
"""In SVG units: drawn 311 px wide, as on a page of 400 px, the text is still 11.7 px high."""

SOFT, LINE, ACCENT, SECOND = "#000001", "#000002", "#000003", "#000004"
INK = {
    colour: f"var(--{name}, currentColor)"
    for colour, name in ((SOFT, "soft"), (LINE, "line"), (ACCENT, "accent"), (SECOND, "second"))
}
"""matplotlib knows no CSS: it draws in colours that nobody can tell from black, and these are replaced."""

LOOKS = ((ACCENT, "-", "o"), (SECOND, (0, (4, 2)), "D"))
"""Colour, dashes and mark of the first and the second line."""

STEPS = (1, 2, 2.5, 5, 10)
"""Between ticks, times a power of ten."""

FEW = 12
"""Up to so many points each has a mark."""

REFERENCE = re.compile(r"(?:^|url\()#(\w+)")
"""An id as an SVG attribute names it."""


@dataclass(frozen=True)
class Line:
    """At least one value over a count, in order of the count."""

    label: str
    points: Sequence[tuple[int, float]]


def line_chart(lines: Sequence[Line], *, name: str, title: str, x_label: str, y_label: str) -> str:
    """One or two lines over one pair of axes that begin at 0, as an `<svg>` element.

    `name` begins each id, so it must differ between the charts of a page; `title` is read to who cannot see.
    """
    with _style(name):
        figure, axes = _axes(x_label, y_label)
        for line, (colour, dashes, mark) in zip(lines, LOOKS[: len(lines)], strict=True):
            x, y = zip(*line.points, strict=True)
            few = len(line.points) <= FEW
            axes.plot(x, y, color=colour, linestyle=dashes, marker=mark if few else "", label=line.label, clip_on=False)
        axes.axhline(0, color=SOFT, linewidth=1, zorder=1)
        if all(value >= 0 for line in lines for _, value in line.points):
            axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(1, *(count for line in lines for count, _ in line.points)))
        figure.legend(loc="outside lower left", ncols=len(LOOKS))
        return _element(figure, name, title)


@contextmanager
def _style(name: str) -> Iterator[None]:
    """matplotlib's own defaults, whatever the owner's matplotlibrc says, and on them ours."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than most fonts of pages
                "font.size": TEXT,
                "axes.titlesize": TEXT,
                "text.color": SOFT,
                "text.parse_math": False,
                "axes.labelcolor": SOFT,
                "axes.axisbelow": True,
                "axes.formatter.useoffset": False,
                "axes.grid": True,
                "axes.grid.axis": "y",
                "grid.color": LINE,
                "grid.linewidth": 1,
                "legend.frameon": False,
                "legend.borderpad": 0.3,
                "lines.linewidth": 2,
                "lines.markersize": 5,
                "xtick.color": SOFT,
                "ytick.color": SOFT,
                "ytick.left": False,
                "svg.fonttype": "none",
                "svg.hashsalt": name,
            }
        )
        yield


def _axes(x_label: str, y_label: str) -> tuple["Figure", "Axes"]:
    """Empty axes; the y label lies above them, as turned text is hard to read and takes width."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, frameon=False, layout="constrained")
    axes = figure.add_subplot(frameon=False)
    axes.set_title(y_label, loc="left")
    axes.set_xlabel(x_label, loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=STEPS, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=STEPS))
    return figure, axes


def _element(figure: "Figure", name: str, title: str) -> str:
    """The figure as an element of an HTML page, without what holds for whole documents."""
    drawn = StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(drawn.getvalue())
    for parent in list(root.iter()):
        for child in [c for c in parent if _local(c.tag) in ("metadata", "style")]:
            parent.remove(child)
    used = {name for e in root.iter() for value in e.attrib.values() for name in REFERENCE.findall(value)}
    for element in root.iter():
        element.tag = _local(element.tag)
        kept = {_local(key): value for key, value in element.attrib.items()}
        kept |= _presentation(kept.pop("style", ""))
        element.attrib = {k: _adapted(k, v, name) for k, v in kept.items() if k != "id" or v in used}
        element.tail = None
        if element.tag != "text":
            element.text = None
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": title,
        "font-size": str(TEXT),
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """A name without its namespace, which HTML does not write."""
    return name.rpartition("}")[2]


def _presentation(style: str) -> dict[str, str]:
    """A style as attributes, which a page may hold that allows no inline style; the font is left to the page."""
    declared = dict(declaration.split(": ", 1) for declaration in style.split("; ") if declaration)
    return {key: INK.get(value, value) for key, value in declared.items() if not key.startswith("font")}


def _adapted(key: str, value: str, name: str) -> str:
    """An attribute's value: ids made the page's own."""
    if key == "id":
        return f"{name}-{value}"
    return REFERENCE.sub(lambda found: found[0].replace("#", f"#{name}-"), value)
