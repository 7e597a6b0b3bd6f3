"""The control of every verdict: a stranger's bio. What wins by the owner's bio and not by this one is personal."""

from lpm_kernel.judges.rubric import rubric_in


def stranger_bio(language: str = "en") -> str:
    """In the owner's language (ISO 639-1), where there is a rubric in it; else in English."""
    return rubric_in(language).stranger
