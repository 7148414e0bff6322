"""The nouns of the pipeline, frozen; this docstring is the glossary.

Problem     A passage with questions about it. The paper calls the pair (context, evaluation).
Question    One question with its accepted (gold) answers.
Policy      The model that writes self-edits: the base model, or an adapter on it.
Self-edit   Text the policy writes about a problem's passage, to be trained on.
Adapter     The LoRA weights that one training run on one self-edit produced.
Repeat      The same self-edit trained again with another seed; measures the noise of a reward.
Answer      What a model (an adapter on its policy, or the policy alone) said to one question.
Baseline    Answers of the policy without any adapter.
Score       A self-edit's reward, by default its adapters' mean accuracy, and the gain over the
            baseline.
Selection   The verdict of the filter on one self-edit: kept or not, by which rule, and why.
Condition   How a problem was prepared for: one of the names below, or that of a round.
Round       One turn of ReST-EM: sample, fine-tune, evaluate, filter, update (Singh et al. 2023).

Ids are digests of what made the row (see `fingerprint`), so the same work has the same id.
Nested lists say their shape by suffix: `_P` problems, `_E` self-edits per problem,
`_R` repeats, `_Q` questions.

Rows of the method carry no time and no place: the same work gives the same rows, and so the
same digests. How long it took, and where, is in the rows of the stage executions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]

NO_ADAPTATION = "no_adaptation"
IN_CONTEXT = "in_context"
INPUT_ONLY = "input_only"
INPUT_ONLY_MATCHED = "input_only_matched"
LAST_EDITS_ON_BASE = "last_edits_on_base"
BASE_EDITS_ON_LAST = "base_edits_on_last"

CONTROL_ROUND = -1
"""Partition of the rows that belong to no policy's round: baselines and controls."""


def round_condition(round_index: int) -> str:
    """Name of the condition "passage plus self-edits of the policy of this round"."""
    return f"round_{round_index}"


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a passage.

    Attributes:
        question_id: Digest of the problem, the question's place in it, its text and reference
            answers.
        prompt: The bare question, without any template.
        gold: Accepted answers; at least one, none of them blank.
    """

    question_id: str
    prompt: str
    gold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A passage and the questions that test whether it was learnt."""

    problem_id: str
    domain: str
    split: Split
    title: str
    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A problem or question of the source that the run does not use, and why.

    Attributes:
        unit: `problem` or `question`.
        place: Where it stands in the source, e.g. `train.json: row 3`.
        text: The question, or the title of the passage.
        reason: Why it is left out, as in `beyond data.limit = 50`.
    """

    unit: Literal["problem", "question"]
    place: str
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Something in a set-up that looks like a mistake, and is none for sure.

    Attributes:
        setting: The setting to change, e.g. `rows.variant`.
        text: What looks wrong with it, and what to do.
    """

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.text}"


@dataclass(frozen=True, slots=True)
class SelfEdit:
    """What the policy wrote for one problem.

    Attributes:
        self_edit_id: Digest of problem, policy, prompt, sampling settings and sample index; or, of
            a copy for another condition, of the original and the condition.
        condition: `round_k`, or the control that this row stands for.
        sample_index: 0-based place among the samples of its problem; ties go to the lowest.
        prompt_id: Versioned name of the prompt, e.g. `implications@1`.
        text: The raw completion; empty for the controls that train on the passage alone.
        n_tokens: Tokens generated; None if imported.
        logprob: Sum of the log-probabilities of the generated tokens, nats; None for controls.
        finish_reason: `stop`, `length`, `none` for controls, or `unknown` if imported.
        seed: Sampling seed, derived from ids; None if imported.
        unusable: None, or why the text teaches nothing, as the domain finds. It is the policy's
            doing, and counts: its model is the untouched policy, and answers as such.
        error: None, or why there is no text, which is not the policy's doing: such a row is
            never trained on and counts for nothing.
    """

    self_edit_id: str
    problem_id: str
    split: Split
    condition: str
    policy_id: str
    sample_index: int
    prompt_id: str
    text: str
    n_tokens: int | None
    logprob: float | None
    finish_reason: str
    seed: int | None
    unusable: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One training text.

    Attributes:
        prompt: Part that is shown but not trained on; empty for plain text.
        text: Part that is trained on; the end token follows it, or what ends a turn.
        chat: Put `prompt` through the chat template as a user message, `text` as the reply.
        is_open: The text goes on, so that nothing ends it.
        weight: Of its loss in the policy's update; an adapter's rows all have 1.
    """

    text: str
    prompt: str = ""
    chat: bool = False
    is_open: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA weights trained on one self-edit, and how the training went.

    Attributes:
        repeat: 0-based index of the training repeat.
        uri: Folder of the weights relative to the store's root; None on error, if imported, or if
            the self-edit taught nothing. It is not there if the weights were pruned.
        sha256: Digest of the weights file; None where there are none.
        rows_sha256: Digest of the training rows in order: prompt, text and `chat` of each, and
            `is_open` and `weight` where these are not as they mostly are; see
            `seal_core.domains.rows.rows_digest`. None if nothing was trained on, or if the
            rows of an imported run are not known for certain.
        n_rows: Training rows (texts) per epoch; None where `rows_sha256` is, if imported.
        n_steps: Optimizer steps taken; of imported adapters, as their settings imply.
        n_tokens: Tokens trained on, all epochs, padding not counted; None if imported.
        first_loss, final_loss: Mean loss per token over the first and last epoch, nats.
    """

    adapter_id: str
    self_edit_id: str
    problem_id: str
    split: Split
    condition: str
    policy_id: str
    repeat: int
    uri: str | None
    sha256: str | None
    rank: int
    rows_sha256: str | None
    n_rows: int | None
    n_steps: int | None
    n_tokens: int | None
    first_loss: float | None
    final_loss: float | None
    seed: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one question, graded.

    Attributes:
        answer_id: Digest of adapter (or policy), question, condition and evaluation settings.
        adapter_id, self_edit_id: None for a baseline and for `in_context`.
        repeat: 0-based index of the training repeat; of a baseline that was asked several times,
            which time it was.
        correct: Verdict of `grader`; None when `error` is set, never False for a failure.
        grades: All gradings of the domain by name, each in [0, 1]; None on error.
        logprob: Sum of the log-probabilities of the answer's tokens, nats.
        reference_logprob, reference_tokens: The same of the question's first reference answer,
            and how many tokens that has; None unless the reward asks for it.
    """

    answer_id: str
    problem_id: str
    question_id: str
    split: Split
    condition: str
    policy_id: str
    adapter_id: str | None
    self_edit_id: str | None
    repeat: int
    text: str | None
    correct: bool | None
    grades: dict[str, float] | None
    logprob: float | None
    n_tokens: int | None
    reference_logprob: float | None
    reference_tokens: int | None
    grader: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of one self-edit.

    Attributes:
        unusable: The self-edit's own; such a one is scored and never kept.
        reward_name: What the reward is, e.g. `accuracy`.
        baseline_reward: The same of the model without the self-edit: of the policy that wrote
            it in training, of the base policy on held-out problems.
        reward: Mean over repeats; None if nothing was graded.
        gain: `reward - baseline_reward`.
        uncertainty: Standard error of `reward` over repeats; None below two repeats.
        components: What the reward was made of, by name.
        n_answers, n_errors: Graded answers and answers lost to errors.
    """

    self_edit_id: str
    problem_id: str
    split: Split
    condition: str
    policy_id: str
    sample_index: int
    unusable: str | None
    reward_name: str
    baseline_reward: float | None
    reward: float | None
    gain: float | None
    uncertainty: float | None
    components: dict[str, float]
    n_repeats: int
    n_answers: int
    n_errors: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The filter's verdict on one self-edit.

    Attributes:
        rank_in_problem: 0 for the best self-edit of its problem; None if it has no reward.
        rule: The rule that decided, with its settings, e.g. `best_of_k(min_gain=None)`.
        reason: One sentence that a person can read.
    """

    self_edit_id: str
    problem_id: str
    policy_id: str
    kept: bool
    rank_in_problem: int | None
    reward: float | None
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A model that writes self-edits.

    Attributes:
        parent: The policy it was trained from; None for the base model.
        base_model: Path or hub id, as the user gave it.
        model_digest: Digest of the base model's files in its precision; None if imported.
        uri, sha256: Adapter on the base, relative to the store; None for the base itself.
        n_examples, n_steps: Size of the update that made it; 0 for the base, None if an import does
            not tell.
    """

    policy_id: str
    parent: str | None
    base_model: str
    model_digest: str | None
    uri: str | None
    sha256: str | None
    n_examples: int | None
    n_steps: int | None
    final_loss: float | None


@dataclass(frozen=True, slots=True)
class ContinualAccuracy:
    """Accuracy on one passage of a sequence whose passages are learnt one after the other.

    Attributes:
        policy_id: The policy that the sequences start from.
        step: Passages learnt so far, each by one self-edit; 0 before the first.
        passage_index: 0-based place of the passage in its sequence.
        accuracy: Mean over the sequences of the accuracy on the passage, [0, 1].
        accuracy_sd: Standard deviation (n - 1) over the sequences.
        n_sequences: Sequences that were averaged.
    """

    policy_id: str
    step: int
    passage_index: int
    accuracy: float
    accuracy_sd: float
    n_sequences: int


@dataclass(frozen=True, slots=True)
class TableRef:
    """A pointer to one Parquet part; the only thing that stages hand to one another.

    Attributes:
        path: Relative to the store's root, so that a store can be moved.
        sha256: Digest of the part's bytes, by which damage is found.
        content: Digest of its rows, which bears identity: other versions of the code or of its
            libraries write the same rows in other bytes.
    """

    table: str
    path: str
    sha256: str
    rows: int
    content: str
