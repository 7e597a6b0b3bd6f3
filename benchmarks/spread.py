"""How far a figure spreads over seeds."""

import statistics
from collections.abc import Iterable
from typing import Any


def spread(rows: Iterable[dict[str, Any]], key: str) -> dict[str, float]:
    """Median, minimum and maximum over the seeds."""
    values = [row[key] for row in rows]
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }
