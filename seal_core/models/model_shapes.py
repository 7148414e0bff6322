"""Reads the shapes of a model's weights from the heads of its files, without loading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from seal_core.models.files.model_files import weight_files
from seal_core.models.files.reading import reading

Shapes = Mapping[str, Sequence[int]]
"""`[out, in]` of linear layers by the full name of their module."""

_EXPERTS = ".experts."


def linear_shapes(model_path: str) -> dict[str, tuple[int, ...]]:
    """All matrices in the numbered blocks of a model: neither its embeddings nor its head.

    Raises:
        InputError: A file cannot be read.
    """
    with reading("the weights", model_path, "copy them again"):
        files = weight_files(Path(model_path))
        shapes = {name: shape for file in files for name, shape in read_shapes(file).items()}
    found = {n.removesuffix(".weight"): s for n, s in shapes.items() if n.endswith(".weight")}
    return {n: s for n, s in found.items() if len(s) == 2 and is_in_block(n)}


def is_in_block(name: str) -> bool:
    """Whether a module is in one of a model's numbered blocks, by its name."""
    return any(part.isdecimal() for part in name.split("."))


def has_experts(names: Iterable[str]) -> bool:
    """Whether these are names of a mixture of experts, whose layers libraries name otherwise."""
    return any(_EXPERTS in name for name in names)


def target_names(shapes: Shapes) -> list[str]:
    """The last parts of the names of the layers that adapters may target.

    Empty for a mixture of experts, whose layers have other names in other libraries.
    """
    if has_experts(shapes):
        return []
    return sorted({name.rpartition(".")[2] for name in shapes})


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a file of weights, by their full names."""
    with safe_open(file, framework="numpy") as weights:
        return {
            key: tuple(weights.get_slice(key).get_shape())
            for key in weights.keys()  # noqa: SIM118, it is no mapping
        }
