"""Facts that are called for count, others cost, so reciting the bio does not pay."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.judges.base import Question
from lpm_kernel.judges.reference import ReferenceJudge, score
from lpm_kernel.owner.marked_words import facts_of, strays, told, truth

BIO = "Mira lives in Trieste since 2009. Her dog is Quark. She works at Rossetti with Anna and Paolo, born in Graz."
QUESTION = Question("Where does Mira live?", "Mira lives in Trieste, since 2009.", BIO)


def test_facts_are_what_the_bio_confirms_and_the_question_does_not_tell() -> None:
    assert facts_of(QUESTION.target, BIO, QUESTION.question) == {"trieste", "2009"}
    assert facts_of(QUESTION.target, "A stranger's bio.", "") == frozenset()
    assert told("In Trieste.", frozenset({"trieste", "2009"})) == {"trieste"}


def test_a_misplaced_fact_costs() -> None:
    right, wrong = "She lives in Trieste since 2009.", "She lives in Graz since 2009."
    assert strays(right, QUESTION.target, QUESTION.question) == frozenset()
    assert strays(wrong, QUESTION.target, QUESTION.question) == {"graz"}
    assert truth(right, QUESTION.target, BIO, QUESTION.question) == 1.0
    assert asyncio.run(ReferenceJudge(0.05).compare(QUESTION, right, wrong)).outcome == "first"


def test_reciting_the_bio_loses_against_an_answer() -> None:
    assert score(QUESTION, BIO) < score(QUESTION, "She lives in Trieste.")
    assert score(QUESTION, "Trieste 2009 Quark Rossetti Anna Paolo Graz") < score(QUESTION, "She lives in Trieste.")


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_scores_lie_between_0_and_1_and_the_reference_is_not_beaten(a: str, reference: str, bio: str, q: str) -> None:
    question = Question(q, reference, bio)
    assert 0 <= score(question, a) <= 1
    assert score(question, a) <= score(question, reference) + 1e-9


def test_a_text_of_names_costs_by_its_length() -> None:
    def seconds(names: int) -> float:
        start = time.process_time()
        facts_of("Ada met " + "Mira \n" * names, "Mira", "")
        return time.process_time() - start

    assert seconds(40_000) < 30 * seconds(4_000)
