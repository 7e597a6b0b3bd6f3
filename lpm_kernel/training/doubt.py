"""DPO's loss on pairs that may be the wrong way round.

With delta the difference of the log-ratios of chosen and rejected, and e the probability that the pair is the wrong
way round:

    cdpo      (1 - e) * -logsigmoid(beta * delta) + e * -logsigmoid(-beta * delta)
    robust   ((1 - e) * -logsigmoid(beta * delta) - e * -logsigmoid(-beta * delta)) / (1 - 2e)

cdpo: Mitchell 2023, "A note on DPO with noisy preferences"; it ends at delta = logit(1 - e) / beta, so a doubtful pair
teaches less. robust: Chowdhury et al. 2024, "Provably robust DPO"; in expectation the loss without noise, so a doubtful
pair weighs more. As -logsigmoid(-x) = -logsigmoid(x) + x, both are DPO's own loss plus slope * beta * delta, and for a
pair that is certain the slope is 0.
"""

from typing import Literal

LossName = Literal["cdpo", "robust"]


def slope_of(loss: LossName, confidence: float, smoothing: float) -> float:
    """Of a pair of this confidence; `smoothing` is the share of all pairs that are the wrong way round besides, for
    another reason: a pair is wrong when one of the two is, and not both."""
    doubt = 1 - confidence
    wrong = doubt * (1 - smoothing) + (1 - doubt) * smoothing
    return wrong if loss == "cdpo" else -wrong / (1 - 2 * wrong)
