"""A share of cases that come in clusters, as those of one question do, and how far it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from lpm_kernel.records import Interval

Z95 = 1.959964
"""Of the normal distribution: 2.5 % lie above it."""


@dataclass(frozen=True)
class Share:
    """Of cases that come in clusters."""

    share: float
    ci95: Interval
    effective: float
    """As many independent cases would tell as much."""


def clustered(shares: Sequence[tuple[float, float]]) -> Share | None:
    """A share over clusters, each told as (hits, cases); None without a case.

    Wilson's interval at the effective number of cases: cases over the design effect of the clusters, never more than
    the cases (Korn and Graubard 1998), and the number of clusters where all agree.
    """
    shares = [(hits, cases) for hits, cases in shares if cases]
    total = sum(cases for _, cases in shares)
    if not total:
        return None
    share, clusters = sum(hits for hits, _ in shares) / total, len(shares)
    spread = sum((hits - share * cases) ** 2 for hits, cases in shares) * clusters / max(1, clusters - 1) / total**2
    size: float = clusters
    if 0 < share < 1:
        size = min(total, share * (1 - share) / spread) if spread else total
    return Share(share, wilson(share, max(1.0, size)), max(1.0, size))


def wilson(share: float, size: float) -> Interval:
    """Wilson's score interval (1927) of a share seen on so many cases."""
    middle = share + Z95**2 / (2 * size)
    reach = Z95 * sqrt(share * (1 - share) / size + Z95**2 / (4 * size**2))
    return max(0.0, (middle - reach) / (1 + Z95**2 / size)), min(1.0, (middle + reach) / (1 + Z95**2 / size))
