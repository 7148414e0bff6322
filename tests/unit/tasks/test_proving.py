"""Every server is held to the plain libraries before its first answer, and again when restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from seal_core.engines import GenerateRequest
from seal_core.errors import EngineError, InputError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.generation.vllm.options import Served
from seal_core.models.loading import load_model
from seal_core.probe.served_check import references
from seal_core.process.pool import EnginePool
from tasks.opening.proving import ProvenGenerator
from tests.models import save_qwen2

REQUEST = GenerateRequest("a", "The river", max_tokens=4)


class PlainPool:
    """An engine process's two calls, answered here by the plain libraries."""

    def __init__(self, path: str) -> None:
        self.references = 0
        self._path = path

    def call(self, name: str, arguments: dict[str, Any], timeout: float) -> Any:
        if name == "references":
            self.references += 1
            return references(load_model(self._path), ("all-linear",), arguments["folder"])
        return PlainGenerator(load_model(self._path)).score(arguments["requests"])


class Servers:
    """A model behind each URL; the first answers the calls that are for all."""

    def __init__(self, *paths: str) -> None:
        self.lives = [1] * len(paths)
        self.models = [TransformersGenerator(load_model(path)) for path in paths]
        self.meanwhile: Callable[[], None] = lambda: None

    def servers(self) -> list[Served]:
        return [
            Served(f"http://host-{i}", life, model)
            for i, (life, model) in enumerate(zip(self.lives, self.models, strict=True))
        ]

    def generate(self, requests, progress=None):
        self.meanwhile()
        return self.models[0].generate(requests)

    def score(self, requests, progress=None):
        return self.models[0].score(requests)

    def close(self) -> None:
        pass


@pytest.fixture
def pool(model_path) -> PlainPool:
    return PlainPool(model_path)


@pytest.fixture
def other(tmp_path) -> str:
    return str(save_qwen2(tmp_path / "other", seed=1))


def proven(servers: Servers, pool: PlainPool) -> ProvenGenerator:
    return ProvenGenerator(servers, cast(EnginePool, pool), "the model", "vllm", 60.0)


def test_every_server_is_tried_once(model_path, pool) -> None:
    generator = proven(Servers(model_path, model_path), pool)
    for _ in range(2):
        assert generator.generate([REQUEST])[0].error is None
    assert pool.references == 2


def test_another_model_on_the_last_of_several_servers_is_refused(model_path, other, pool) -> None:
    generator = proven(Servers(model_path, model_path, other), pool)
    with pytest.raises(InputError, match="server http://host-2 does not answer as the model does"):
        generator.generate([REQUEST])


def test_a_restart_between_calls_is_tried_again(model_path, other, pool) -> None:
    servers = Servers(model_path)
    generator = proven(servers, pool)
    generator.generate([REQUEST])
    servers.lives[0] += 1
    generator.generate([REQUEST])
    assert pool.references == 2
    servers.lives[0] += 1
    servers.models[0] = TransformersGenerator(load_model(other))
    with pytest.raises(InputError, match="does not answer as"):
        generator.generate([REQUEST])


def test_answers_over_a_restart_do_not_count(model_path, pool) -> None:
    servers = Servers(model_path)
    generator = proven(servers, pool)

    def restart() -> None:
        servers.lives[0] += 1
        servers.meanwhile = lambda: None

    servers.meanwhile = restart
    with pytest.raises(EngineError, match="http://host-0 was restarted by someone"):
        generator.generate([REQUEST])
    assert generator.generate([REQUEST])[0].error is None
