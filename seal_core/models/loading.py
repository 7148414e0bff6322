"""Loads a causal language model and its tokenizer, safely and ready for batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from seal_core.engines import PLAIN_CHAT, ChatSettings
from seal_core.errors import InputError, in_one_line
from seal_core.models.files.model_files import (
    adapter_base,
    check_model_folder,
    model_name,
    refuse_quantized,
)
from seal_core.models.files.reading import reading
from seal_core.models.text.context import longest_row
from seal_core.models.text.tokenizers import (
    end_tokens,
    load_config,
    load_generation,
    load_tokenizer,
)
from seal_core.models.text.tokens import Codec

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A frozen model in evaluation mode with what engines need to know about it.

    Attributes:
        name: Hub id or folder name, without any machine's path.
        base: What adapters of this model name as their base.
        eos_id: The token that ends a training text.
        stop_ids: Tokens that end any completion; `eos_id` is among them.
        context: Longest sequence in tokens that may share a batch with any other; None if the
            config does not say.
        chat: What the chat template is told.
        codec: Turns texts into tokens.
    """

    model: Any
    tokenizer: Any
    name: str
    eos_id: int
    pad_id: int
    stop_ids: tuple[int, ...]
    context: int | None
    device: torch.device
    chat: ChatSettings = PLAIN_CHAT
    base: str = ""
    codec: Codec = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codec", Codec(self.tokenizer, self.name, self.chat))

    def twin(self) -> LoadedModel:
        """The same weights, held once, under modules of its own that an engine may wrap."""
        kept = {id(weight): weight for weight in self.model.parameters()}
        return replace(self, model=copy.deepcopy(self.model, kept))


def load_model(
    path: str,
    device: str = "auto",
    dtype: str = "auto",
    chat: ChatSettings = PLAIN_CHAT,
) -> LoadedModel:
    """Loads from a local folder; only safetensors, never remote code.

    Args:
        device: A torch device, or `auto` for the first GPU if there is one.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, or `auto` for the checkpoint's own
            on a GPU and float32 on a CPU, where half precision is slow.
        chat: What the chat template is told.

    Raises:
        InputError: Files are missing or cannot be loaded, or an option is unknown.
    """
    check_model_folder(path)
    place = check_device(device)
    precision = _dtype(dtype, place)
    _check_kind(path)
    tokenizer = load_tokenizer(path)
    model = _load_weights(path, precision)
    n_tokens = model.get_input_embeddings().weight.shape[0]
    eos_id, stop_ids = end_tokens(tokenizer, model.generation_config, path, n_tokens)
    model.to(place).eval().requires_grad_(False)
    pad_id = tokenizer.pad_token_id
    if pad_id is None or pad_id >= n_tokens:
        # Padding is masked everywhere, so any token that the model has serves. The library
        # may invent a pad token for a family of models that a small vocabulary lacks.
        tokenizer.pad_token_id = pad_id = eos_id
    tokenizer.padding_side = "left"
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=model_name(path),
        eos_id=eos_id,
        pad_id=pad_id,
        stop_ids=stop_ids,
        context=longest_row(model.config.get_text_config()),
        device=place,
        chat=chat,
        base=adapter_base(path),
    )


def _load_weights(path: str, dtype: torch.dtype | str) -> Any:
    """The model on the CPU.

    Raises:
        InputError: It cannot be made as its config says, or the weights are not its own.
    """
    config = load_config(path).to_dict()
    load_generation(path)  # The model would be blamed for its faults.
    fix = "see that its config.json and its weights are whole, and of the same model"
    with reading("the model", path, fix, config):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            trust_remote_code=False,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # They are told by name below.
        )
        model, info = loaded
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise InputError(
            f"the weights of {path} do not fit its config.json: {name} is {list(found)}, and "
            f"{list(wanted)} by the config; take both from the same model"
        )
    if info["missing_keys"]:
        # The library would go on with random numbers in their place.
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise InputError(
            f"the weights of {path} lack {missing}: they are another model's, or those of a model "
            "that was not trained to continue texts"
        )
    return model


def check_known(loaded: LoadedModel, ids: Sequence[int]) -> None:
    """Passes if the model has an embedding for every token of a text.

    Raises:
        InputError: The tokenizer knows more tokens than the model.
    """
    loaded.codec.check_known(ids, loaded.model.get_input_embeddings().weight.shape[0])


def _check_kind(path: str) -> None:
    """Passes if the library itself has a causal language model of the config's type.

    Its weights may not be loaded before: the library would ask for a quantizer's package first.
    """
    with reading("the config.json", path, "save the model again"):
        config, _ = PreTrainedConfig.get_config_dict(path)
    refuse_quantized(config, path)
    kind = str(config.get("model_type"))
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    library = f"transformers {version('transformers')}"
    if kind in CONFIG_MAPPING_NAMES:
        raise InputError(
            f"{path} is a {kind}, for which {library} has no causal language model: use another "
            "model, of a kind that docs/models.md lists"
        )
    if "auto_map" in config:
        raise InputError(
            f"{path} brings code of its own (auto_map in its config.json), which is never run: use "
            f"a model whose type {library} knows"
        )
    kind = config.get("model_type")
    raise InputError(f"{path} is of type {kind!r}, which {library} does not know")


def device_name(device: torch.device) -> str:
    """A GPU's own name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        InputError: There is none that torch could use here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"{name!r} is no device: set execution.device to auto, cpu, cuda or cuda:1"
        ) from error
    try:
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = in_one_line(error).partition(". ")[0]
        raise InputError(
            f"there is no {name} that torch could use here ({reason}): set execution.device=cpu"
        ) from error
    return place


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in _DTYPES:
        raise InputError(f"{name!r} is no dtype: use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]
