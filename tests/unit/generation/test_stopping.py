"""Stop strings end an answer whatever the ids of the tokens that hold them."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from seal_core.generation.stopping import StopFinder


def test_a_vocabulary_with_holes_stops_too() -> None:
    vocabulary = {"a": 0, "b": 1, "#": 900}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()
    finder = StopFinder(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    assert finder.decode([0, 900]) == "a#"
    assert finder.stopped([0, 900], ("#",)) and not finder.stopped([0, 1], ("#",))
