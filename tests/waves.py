"""Requests of several stacks at once, for tests of engines that answer them."""

from __future__ import annotations

from seal_core.engines import GenerateRequest, Generation


def wave(adapters: dict[str, str], n: int = 4) -> list[GenerateRequest]:
    """`n` requests for each of four stacks, the base model included."""
    wide, mlp = adapters["wide"], adapters["mlp"]
    stacks = [(), (adapters["small"],), (wide,), (wide, mlp)]
    return [
        GenerateRequest(f"{s}-{i}", f"prompt {i}", stack, max_tokens=20, seed=i)
        for i in range(n)
        for s, stack in enumerate(stacks)
    ]


def texts(answers: list[Generation]) -> list[str | None]:
    assert [answer.error for answer in answers] == [None] * len(answers)
    return [answer.text for answer in answers]
