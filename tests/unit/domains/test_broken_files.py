"""Whatever a result file or a config holds, a fault in it is one line, no traceback."""

from __future__ import annotations

import json
import os

import pytest

from flows.loading import load_config
from seal_core.errors import InputError
from seal_core.published.records import read_published

DIGITS = "1" * 5000
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [f'{{"articles": [{DIGITS}]}}', f'{{"articles": {DEEP}}}', '{"articles": [NaN]}',
     '{"articles": ["\\ud800"]}', '{"articles": ["\0"]}', f'{{"articles": [], "n": {DIGITS}}}'],
)  # fmt: skip
def test_published_files_name_the_line(tmp_path, text) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"results\.json: it is not JSON: .* at line 1 column"):
        read_published(file)


def test_configs_are_as_careful(tmp_path) -> None:
    file = tmp_path / "c.toml"
    for text in (f"[run]\nseed = {DIGITS}", f"[run]\nseed = {DEEP}"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"c\.toml: not valid TOML"):
            load_config(file)
    file.write_bytes("[run]\nseed = 1".encode("utf-16"))
    with pytest.raises(InputError, match=r"c\.toml: not valid TOML"):
        load_config(file)
    file.write_bytes("[run]\nseed = 1".encode("utf-8-sig"))
    assert load_config(file).run.seed == 1
    for value in (DIGITS, DEEP, "0x" + "f" * 5000, str(2**63)):
        with pytest.raises(InputError, match=r"run\.seed = ") as caught:
            load_config(file, [f"run.seed={value}"])
        assert len(str(caught.value)) < 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_config_that_may_not_be_read_is_named(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(json.dumps({}))
    file.chmod(0)
    with pytest.raises(InputError, match="check its rights"):
        load_config(file)
