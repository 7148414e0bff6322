"""Reads the header of a GGUF, and refuses by it what transformers would read wrongly."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.integrations.gguf.reader import GgufHeader, TensorInfo, read_gguf_metadata
from transformers.utils.import_utils import is_gguf_available

from seal_core.errors import InputError

USE_ORIGINAL = "use the full-precision Hugging Face checkpoint"

SPLIT_AT_DIGITS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""Tokenizers that take every digit alone before they split as GPT-2; transformers does not know."""

_SPLITS = SPLIT_AT_DIGITS | {"gpt-2", "phi-2", "mpt", "olmo", "qwen2", "deepseek-r1-qwen"}
"""Ways to split text before byte pair encoding (`tokenizer.ggml.pre`) that come out right."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF whose header is whole.

    Attributes:
        metadata: Its keys; of long lists of strings only the length.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture."""
        return self.metadata["general.architecture"]

    @property
    def n_weights(self) -> int:
        """Numbers in all of its tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def open_gguf(path: Path) -> GgufFile:
    """Reads the header, and holds it against the file's size and against what can be converted.

    Raises:
        InputError: The file is cut off, is a part of a model, or would be read wrongly;
            or the `gguf` package is not here.
    """
    if not is_gguf_available():
        raise InputError(
            "converting a GGUF needs the gguf package: pip install 'seal-pipeline[gguf]'"
        )
    try:
        metadata, _ = read_gguf_metadata(str(path))
        header = GgufHeader.from_file(str(path))
    except struct.error as error:
        raise InputError(f"{path} is cut off in its header: fetch it again") from error
    except (ValueError, LookupError, OverflowError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    end = max((header.data_start + info.offset + info.nbytes for info in header.tensors), default=0)
    if (size := path.stat().st_size) < end:
        raise InputError(f"{path} is cut off: it has {size} of {end} bytes; fetch it again")
    file = GgufFile(path, metadata, header.tensors)
    _check_whole(file)
    _check_tokenizer(file)
    return file


def check_read(file: GgufFile, model: Any) -> None:
    """Passes if transformers has read all that the file says of the model's weights and positions.

    Raises:
        InputError: Tensors, or a stretching of the positions, were left out without a word.
    """
    read = sum(weight.numel() for weight in model.parameters())
    unread = file.n_weights - read
    if unread and model.config.tie_word_embeddings:
        unread -= sum(math.prod(t.shape) for t in file.tensors if t.name == "output.weight")
    if unread:
        outside = [
            tensor.name
            for tensor in file.tensors
            if not tensor.name.startswith(("blk.", "token_embd.", "output"))
        ]
        named = f" (perhaps {', '.join(outside)})" if outside else ""
        raise InputError(
            f"{file.path} holds {file.n_weights} weights, of which transformers reads {read}"
            f"{named}: the model would be another; {USE_ORIGINAL}"
        )
    rope = getattr(model.config, "rope_parameters", None) or {}
    scaled = [
        f"{key} = {value}"
        for key, value in file.metadata.items()
        if ".rope.scal" in key and value not in ("none", 0, 1)
    ]
    if scaled and rope.get("rope_type", "default") == "default":
        raise InputError(
            f"{file.path} stretches its positions ({scaled[0]}), which transformers does not read "
            f"for {file.architecture}: {USE_ORIGINAL}"
        )


def _check_whole(file: GgufFile) -> None:
    if (parts := file.metadata.get("split.count", 0)) > 1:
        raise InputError(
            f"{file.path} is one of {parts} parts: join them with `llama-gguf-split --merge` first"
        )
    if not file.tensors or "tokenizer.ggml.tokens" not in file.metadata:
        raise InputError(f"{file.path} lacks weights or tokenizer: {USE_ORIGINAL}")


def _check_tokenizer(file: GgufFile) -> None:
    kind = file.metadata.get("tokenizer.ggml.model")
    split = file.metadata.get("tokenizer.ggml.pre")
    if kind == "gpt2" and split not in _SPLITS:
        raise InputError(
            f"{file.path} splits text as {split!r} (tokenizer.ggml.pre), which is not known to "
            f"come out right in transformers: {USE_ORIGINAL}"
        )
