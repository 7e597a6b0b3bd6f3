"""How a judge judges, whatever the answers say: does it decide at all, and does the place decide for it?"""

from collections.abc import Iterator, Mapping

from lpm_kernel.judges.base import swapped
from lpm_kernel.records import Manner, Verdict

VICE = 0.75
"""Share of its verdicts from which on a judge's place, or its tie, says more of it than of the answers."""


def signs(verdict: Verdict) -> Iterator[str]:
    """The fields of Manner that one comparison adds to; none when it has no verdict in one of its orders."""
    if len(verdict.orders) != 2 or "failed" in verdict.orders:
        return
    forward, backward = verdict.orders
    yield "comparisons"
    if forward == backward:
        yield "tied" if forward == "tie" else "agreed"
    yield from (f"{place}_place" for place in (forward, swapped(backward)) if place != "tie")


def manner_of(counts: Mapping[str, int]) -> Manner:
    """Of all comparisons together."""
    return Manner(**{name: counts.get(name, 0) for name in Manner.model_fields})


def vice(manner: Manner, cure: str) -> str | None:
    """What is wrong with the judge, with its figures and the next move; None when nothing stands out."""
    number, decided = manner.comparisons, manner.first_place + manner.second_place
    if not number:
        return None
    most, place = max((manner.first_place, "first"), (manner.second_place, "second"))
    if decided >= number and most >= VICE * decided:
        return (
            f"the judge chose the {place} place in {most / decided:.0%} of {decided} verdicts, and its two orders "
            f"agreed in {manner.agreed / number:.0%} of {number} comparisons: it judges by the place. {cure}"
        )
    if manner.tied >= VICE * number:
        return (
            f"the judge said tie in {manner.tied} of {number} comparisons, in both orders. {cure}; or make the answers "
            "differ more: a higher --temperature"
        )
    if manner.agreed <= (1 - VICE) * number:
        return f"the judge's two orders agreed on an answer in {manner.agreed} of {number} comparisons. {cure}"
    return None
