"""The decision and why, in two plain sentences for the owner; and each of the gate's rules by its name in words."""

from lpm_kernel.proof.evaluation import Evaluation, Rule
from lpm_kernel.proof.gate import MUST_BE_KNOWN, WITHOUT_A_VERDICT
from lpm_kernel.proof.numbers import percent

HEADLINES = {
    "better": "Your new model is better",
    "not better": "Your model stays as it is",
    "cannot be measured": "This cannot be measured",
}

COMPARED = {
    "better": "{after} is better than {before}",
    "not better": "{after} is not shown to be better than {before}",
    "cannot be measured": "whether {after} is better than {before} cannot be measured",
}
"""The same of two models by their names."""

RULES = {
    "measurable": ("There is enough to measure", "too little could be measured"),
    "judge": ("The judge can be believed", "the judge cannot be believed"),
    "win_rate": ("The new answers are preferred", "{after}'s answers are not surely preferred to {before}'s"),
    "facts": (
        "Right facts do not fall, wrong ones do not rise",
        "{after}'s right facts may fall or its wrong ones rise",
    ),
    "length": ("It does not win by length alone", "{after} may win by the length of its answers alone"),
    "unanswerable": ("It makes up no more where it cannot know", "{after} may make up more where it cannot know"),
    "general": ("It still does what any model does", "{after} may have got worse at what any model does"),
    "export": ("What is served is what was trained", "what would be served may not be what was trained"),
    "owner": ("You do not like it less", "you liked its answers less, blind"),
}
"""Of a rule: as its title, and as a reason against the model after."""


def finding(evaluation: Evaluation) -> str:
    """What was found, also of an older file, which holds the decision alone."""
    return evaluation.finding or ("better" if evaluation.decision == "promote" else "not better")


def names(evaluation: Evaluation) -> dict[str, str]:
    """What the two models are called."""
    return dict(zip(("before", "after"), evaluation.names or ("the old one", "the new one"), strict=True))


def outcome(evaluation: Evaluation) -> str:
    """The decision, or of two models that are compared which is better, as part of a sentence."""
    if evaluation.names is None:
        return f"decision: {evaluation.decision}"
    return COMPARED[finding(evaluation)].format(**names(evaluation))


def headline(evaluation: Evaluation) -> str:
    """The same as a title."""
    found = finding(evaluation)
    if evaluation.names is None:
        return HEADLINES[found]
    told = outcome(evaluation)
    return told[0].upper() + told[1:] if found == "cannot be measured" else told


def sentences(evaluation: Evaluation) -> tuple[str, ...]:
    """What was found and why, and what it means or rests on."""
    found, called = finding(evaluation), names(evaluation)
    if found == "better":
        return f"{headline(evaluation)}: {_told(evaluation, 'it')}.", _support(evaluation)
    if found == "cannot be measured":
        stays = "" if evaluation.names else "Until then your model stays as it is."
        cure = f"What would make it so: {_clause(evaluation.to_measure)}." if evaluation.to_measure else ""
        return f"{headline(evaluation)}, because {_why(evaluation)}.", " ".join(filter(None, (stays, cure)))
    objections = [RULES[rule.name][1].format(**called) for rule in evaluation.rules if rule.holds is False]
    because = f", because {'; and '.join(objections)}" if objections else f": {_clause('; '.join(evaluation.reasons))}"
    told = [_told(evaluation, called["after"]), _told_wrong(evaluation)]
    return f"{headline(evaluation)}{because}.", as_sentence(", and ".join(filter(None, told)))


def _told(evaluation: Evaluation, new: str) -> str:
    """What the new model told, and the old one: by its answers, in older files by the facts, else by the wins."""
    answers, recall, rate = evaluation.answers, evaluation.fact_recall, evaluation.win_rate.rate
    if answers and answers.right.before is not None and answers.right.after is not None:
        before, after = percent(answers.right.before), percent(answers.right.after)
        return f"{_asked(answers.questions, new)} it told the right fact in {after} of the answers, before in {before}"
    if recall.before is not None and recall.after is not None:
        before, after = percent(recall.before), percent(recall.after)
        return f"{_asked(recall.questions, new)} it told {after} of the facts asked for, before {before}"
    asked = _asked(evaluation.prompts, new)
    if rate is not None:
        return f"{asked} its answers won {percent(rate)} of the comparisons with the old ones, ties as half"
    return f"{asked} no answers could be compared"


def _asked(questions: int, new: str) -> str:
    return f"on {_count(questions, 'question')} that {new} was never trained on"


def _support(evaluation: Evaluation) -> str:
    """Why the gain may be believed: wrong facts and rules; in older files the reasons."""
    rules = evaluation.rules
    if not rules:
        return as_sentence("; ".join(evaluation.reasons))
    held, unknown = (sum(rule.holds is state for rule in rules) for state in (True, None))
    gate = f"{held} of the {_count(len(rules), 'rule')} hold"
    gate += f", {unknown} could not be measured" if unknown else ""
    wrong = _told_wrong(evaluation)
    return as_sentence(f"it told {wrong}; {gate}" if wrong else gate)


def _told_wrong(evaluation: Evaluation) -> str:
    wrong = evaluation.answers.wrong if evaluation.answers else None
    if wrong is None or wrong.before is None or wrong.after is None:
        return ""
    return f"a wrong one in {percent(wrong.after)}, before in {percent(wrong.before)}"


def _why(evaluation: Evaluation) -> str:
    unknown = [rule.reason for rule in evaluation.rules if _hides_the_verdict(rule)] or evaluation.reasons
    return ", and because ".join(map(_clause, unknown))


def _hides_the_verdict(rule: Rule) -> bool:
    return rule.name in (MUST_BE_KNOWN if rule.holds is None else WITHOUT_A_VERDICT) and not rule.holds


def ordered(rules: tuple[Rule, ...]) -> list[Rule]:
    """Those that do not hold, those that cannot be measured, those that hold."""
    return sorted(rules, key=lambda rule: (rule.holds is True, rule.holds is None))


def as_sentence(reason: str) -> str:
    """A reason of the gate as it stands by itself."""
    return f"{_clause(reason, upper=True)}."


def _clause(text: str, *, upper: bool = False) -> str:
    """A sentence as part of another one."""
    text = text.strip().rstrip(".").replace(" -> ", " → ")
    is_word = text[1:2].islower() or text[1:2].isspace()
    return (text[:1].upper() if upper else text[:1].lower()) + text[1:] if is_word else text


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
