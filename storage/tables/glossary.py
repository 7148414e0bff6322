"""What a column means where its row's own docstring does not say; each name once."""

from __future__ import annotations

GLOSSARY = {
    "adapter_id": "Digest of the self-edit, the training settings and the repeat.",
    "base_model": "Path or hub id of the base model.",
    "condition": (
        "`no_adaptation`, `in_context`, `input_only`, `input_only_matched`, `round_k`, "
        "`last_edits_on_base` or `base_edits_on_last`; imported answers may have "
        "`continued_pretraining`."
    ),
    "device": "Device the work ran on.",
    "error": "None, or why this unit failed; such a row has no verdict.",
    "final_loss": "Mean loss per token over the last epoch, nats; None if nothing was trained.",
    "finish_reason": "Why generation ended.",
    "grader": "Grader whose verdict is `correct`.",
    "host": "Name of the machine.",
    "kept": "Whether the policy learns from this self-edit.",
    "n_repeats": "Repeats with at least one graded answer.",
    "n_tokens": "Tokens generated; None if imported.",
    "pid": "Process id on that machine.",
    "policy_id": "The policy that wrote the self-edit, was trained on it, or answered.",
    "problem_id": "Digest of the passage and its questions.",
    "question_id": (
        "Digest of the problem, the question's place in it, its text and reference answers."
    ),
    "rank": "Rank of the LoRA matrices.",
    "repeat": "0-based index of the training repeat.",
    "reward": "The reward that the filter ranked by; None if there is none.",
    "round": "Round of ReST-EM, from the partition; -1 for problems, baselines and controls.",
    "run": "Name of the run, from the partition.",
    "sample_index": "0-based place among the samples of its problem.",
    "seed": "Seed derived from ids; None if imported.",
    "self_edit_id": "Digest of problem, policy, prompt, sampling settings and sample index.",
    "split": "`train` or `heldout`.",
    "text": "The text as it was generated.",
}
