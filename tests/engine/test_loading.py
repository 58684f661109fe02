"""What a chat becomes before a model reads it."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from detectors.contexts.context import Message
from detectors.engine.checkpoint import Inspected
from detectors.engine.loading import LoadedModel

ASKED: list[Message] = [{"role": "user", "content": "Hello there"}]


@pytest.mark.parametrize("templated", [True, False])
def test_an_answer_that_is_begun_stands_where_answers_begin(tiny_base: Inspected, templated: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.tokenizer.directory, local_files_only=True)
    tokenizer.chat_template = tiny_base.tokenizer.template if templated else None
    model = LoadedModel(network=None, tokenizer=tokenizer, stop_ids=frozenset(), window=64)
    begun = model.encode([*ASKED, {"role": "assistant", "content": "The"}])
    assert begun == (*model.encode(ASKED), *model.tokenize("The"))
