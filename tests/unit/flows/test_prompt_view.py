"""`seal show --prompt` shows as much of a row as is trained on."""

from __future__ import annotations

import pytest

from flows.views.prompt_view import _Viewer
from seal_core.config import Config
from seal_core.domains.base import PromptText
from seal_core.engines import TrainJob
from seal_core.models.loading import load_model
from seal_core.training.peft_trainer import encode_job
from seal_core.types import TrainRow
from tasks.stages.finetune import to_settings
from tasks.stages.lora import lora_settings
from tests.chat_models import save_chat_model

ROW = TrainRow("A set of things.", "What is it?", chat=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_chat_model(tmp_path_factory.mktemp("model"), "chatml")


def config(limit: int) -> Config:
    return Config.model_validate(
        {"rows": {"variant": "instruct"}, "finetune": {"max_length": limit}}
    )


@pytest.mark.parametrize("limit", [50, 1000, 9000])
def test_a_row_is_cut_where_it_is_in_training(limit: int, model: str) -> None:
    row = TrainRow("A set of things. " * 400, "What is it?", chat=True)
    settings = to_settings(lora_settings(config(limit).finetune))
    (trained,) = encode_job(load_model(model), TrainJob("j", (row,), settings, seed=1))
    view = _Viewer(config(limit), model).row("row", row)
    assert [token["id"] for token in view["tokens"]] == list(trained.ids)
    assert view["n_context"] == trained.n_context
    assert view["note"].startswith(f"cut: {len(trained.ids)} of ")


def test_a_row_of_which_nothing_is_left_to_train_on_says_so(model: str) -> None:
    assert _Viewer(config(1000), model).row("row", ROW)["note"] is None
    view = _Viewer(config(5), model).row("row", ROW)
    assert view["n_context"] == len(view["tokens"]) == 5
    assert "the row is left out" in view["note"]


def test_a_prompt_that_is_too_long_for_the_model_says_so(model: str) -> None:
    viewer = _Viewer(config(1000), model)
    assert viewer.prompt("p", PromptText("p@1", "Q", (), True))["note"] is None
    view = viewer.prompt("p", PromptText("p@1", "Q " * 4096, (), True))
    assert view["note"] == "too long: the model's context is 4096 tokens"
