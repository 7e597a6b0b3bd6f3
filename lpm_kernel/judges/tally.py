"""What came of the prompts: each gave a pair, or was dropped for a reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from lpm_kernel.judges.manner import manner_of, signs
from lpm_kernel.progress import tally
from lpm_kernel.records import Evidence, Examination, OwnersShare, PairsAccount, Served


@dataclass
class Tally:
    """What came of the prompts so far."""

    prompts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    signs: Counter[str] = field(default_factory=Counter)
    """Of the judge's manner."""
    answers: Counter[str] = field(default_factory=Counter)
    last_failure: str = ""
    owner: OwnersShare = field(default_factory=OwnersShare)

    def add(self, evidence: Evidence) -> None:
        """Count one prompt."""
        self.prompts += 1
        self.dropped.update([evidence.dropped] if evidence.dropped else [])
        self.verdicts.update(verdict.outcome for verdict in evidence.verdicts)
        self.signs.update(sign for verdict in evidence.verdicts for sign in signs(verdict))
        self.answers.update(answer.finish_reason for answer in evidence.answers)
        failures = [verdict.reason for verdict in evidence.verdicts if verdict.outcome == "failed"]
        self.last_failure = failures[-1] if failures else self.last_failure

    @property
    def pairs(self) -> int:
        """Prompts that gave one."""
        return self.prompts - self.dropped.total()

    @property
    def sentence(self) -> str:
        """prompts = pairs + dropped, exactly."""
        dropped = self.dropped.total()
        return f"pairs: {self.prompts} prompts = {self.pairs} pairs + {dropped} dropped{tally(self.dropped)}"

    def account(self, served: Served, sections: Mapping[str, str], examination: Examination | None) -> PairsAccount:
        """For its file; `sections` are the bio's, by their digests."""
        return PairsAccount(
            prompts=self.prompts,
            pairs=self.pairs,
            dropped=dict(sorted(self.dropped.items())),
            verdicts=dict(sorted(self.verdicts.items())),
            manner=manner_of(self.signs),
            answers=dict(sorted(self.answers.items())),
            served=served,
            sections=dict(sections),
            examination=examination,
            owner=self.owner,
        )
