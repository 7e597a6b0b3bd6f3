"""Numbers as the report writes them; a dash for what is not known."""

from collections.abc import Callable

SPACE = "\u00a0"
"""Between a number and its unit, where no line may break."""
UNKNOWN = "\u2013"
MINUS = "\u2212"


def percent(share: float | None) -> str:
    """49 %; what is not quite none or all is not rounded to it."""
    if share is None:
        return UNKNOWN
    if 0 < share < 0.01:
        return f"under 1{SPACE}%"
    if 0.99 < share < 1:
        return f"over 99{SPACE}%"
    return f"{100 * share:.0f}{SPACE}%"


def points(change: float | None) -> str:
    """+37: hundredths of the whole."""
    return UNKNOWN if change is None else _signed(100 * change, 0)


def signed(value: float | None) -> str:
    """+0.04"""
    return UNKNOWN if value is None else _signed(value, 2)


def number(value: float | None) -> str:
    """0.04"""
    return UNKNOWN if value is None else f"{value:.2f}"


def whole(value: float | None) -> str:
    """61"""
    return UNKNOWN if value is None else f"{value:.0f}"


def signed_whole(value: float | None) -> str:
    """+61"""
    return UNKNOWN if value is None else _signed(value, 0)


def between(bounds: tuple[float, float], shown: Callable[[float], str]) -> str:
    """95 %: +27 to +47"""
    return f"95{SPACE}%: {shown(bounds[0])} to {shown(bounds[1])}"


def _signed(value: float, digits: int) -> str:
    """Zero, also one that was rounded to it, has no sign."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", MINUS) if rounded else f"{0:.{digits}f}"
