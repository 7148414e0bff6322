"""The knowledge domain as the stages use it, through the protocol alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seal_core.config import Config, EvaluateSection, RowsSection, SampleSection
from seal_core.domains.base import Domain
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.errors import InputError


def domain(**sections) -> Domain:
    return KnowledgeDomain.from_config(Config(**sections))


def test_prompts_rows_and_grades_of_a_problem(problem):
    knowledge = domain()
    question = problem.questions[0]
    assert knowledge.edit_prompt(problem).text.endswith(f"{problem.context}\n\nImplications:\n")
    (closed,) = knowledge.answer_prompts(problem, question)
    (opened,) = knowledge.answer_prompts(problem, question, in_context=True)
    assert problem.context not in closed.text
    assert problem.context in opened.text
    assert question.prompt in closed.text and question.prompt in opened.text
    assert len(knowledge.train_rows(problem, "One.\nTwo.")) == 3
    grading = knowledge.grade(question, ["1 and 2."])
    assert grading.correct and grading.text == "1 and 2."
    assert grading.grades == {"exact_match": 1.0, "f1": 1.0, "contains": 1.0}
    assert not knowledge.grade(question, ["It has 1 and 2"]).correct
    assert knowledge.check_edit(problem, "A fact.") is None
    assert knowledge.check_edit(problem, " \n") == "the policy wrote nothing"
    assert knowledge.render(problem) == problem.context


def test_the_configured_grader_gives_the_verdict(problem):
    contains = domain(evaluate=EvaluateSection(grader="contains"))
    assert contains.grade(problem.questions[0], ["It has 1 and 2"]).correct


def test_instruct_puts_the_same_message_through_the_chat_template(problem):
    base, instruct = domain(), domain(rows=RowsSection(variant="instruct"))
    assert instruct.edit_prompt(problem).text == base.edit_prompt(problem).text
    assert instruct.edit_prompt(problem).chat and not base.edit_prompt(problem).chat
    assert all(row.chat for row in instruct.train_rows(problem, "One."))


def test_wrong_names_fail_before_anything_is_read():
    with pytest.raises(InputError, match="'nope@1' is not known"):
        domain(sample=SampleSection(prompt="nope@1"))
    with pytest.raises(InputError, match="for 'answer', not 'answer_in_context'"):
        domain(evaluate=EvaluateSection(context_prompt="answer@1"))
    with pytest.raises(InputError, match="the grader 'gpt' is not known: use one of exact_match"):
        domain(evaluate=EvaluateSection(grader="gpt"))


def test_loading_the_embedded_world_imports_neither_datasets_nor_torch():
    code = (
        "import sys; from seal_core.config import Config; "
        "from seal_core.domains.knowledge import KnowledgeDomain; "
        "KnowledgeDomain.from_config(Config()).load(); "
        "sys.exit(','.join({'datasets', 'torch', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
