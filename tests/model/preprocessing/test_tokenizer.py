"""The tokenizer: where it is found and what it makes of prompts.

Oracles: the ids that the reference's tokenizer gave for every LIBERO prompt (with the real files, which are
not in this repository), and a byte-level tokenizer small enough to be worked out by hand.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

import gr00t.model.preprocessing.tokenizer as tokenizer_module
from gr00t.model.preprocessing.gr00t_transform import GR00TTransform, chat_prompt
from gr00t.model.preprocessing.tokenizer import (
    HUB_TOKENIZER,
    TokenizerError,
    load_tokenizer,
    resolve_tokenizer,
)
from tests.model.preprocessing.small_tokenizer import (
    SPECIAL,
    vocabulary,
    write_tokenizer_json,
    write_vocabulary,
)
from tests.shell import REPO

RECORDED = REPO / "tests" / "golden" / "parity" / "tokens_libero.json"
ENABLE = f"set GR00T_TOKENIZER to a folder with the tokenizer of {HUB_TOKENIZER}, then: pytest -m checkpoint"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, **_: object) -> str:
        raise LocalEntryNotFoundError(f"{repository} is not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_vocabulary(folder)
    return folder


@pytest.mark.checkpoint
def test_real_tokenizer_gives_the_reference_ids_for_every_libero_prompt() -> None:
    folder = os.environ.get("GR00T_TOKENIZER")
    if not folder:
        pytest.skip(ENABLE)
    tokenizer = load_tokenizer(Path(folder))
    assert tokenizer is not None
    recorded = json.loads(RECORDED.read_text())
    images = [recorded["img_context_id"]] * recorded["n_img"]
    checked = 0
    for prompt in recorded["prompts"].values():
        for form in ("bracketed", "plain"):
            tail = prompt[form]["tail_ids"]
            want = [*recorded["prefix_ids"], *images, *recorded["between_ids"], *images, *tail]
            assert tokenizer.encode(chat_prompt(prompt[form]["text"], 2, recorded["n_img"])) == want
            checked += 1
    assert (checked, len(tokenizer)) == (238, 151680)


def test_recorded_prompts_are_the_instructions_in_the_two_forms() -> None:
    # Without the real files this much can be held: which texts the ids were recorded for.
    for name, prompt in json.loads(RECORDED.read_text())["prompts"].items():
        text = name.split("|", 1)[1]
        assert prompt["plain"]["text"] == text
        assert prompt["bracketed"]["text"] == str([text])


def test_prompt_template_by_hand() -> None:
    assert chat_prompt("TEXT", 2, 2) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<image 1><img><IMG_CONTEXT><IMG_CONTEXT></img><image 2><img><IMG_CONTEXT><IMG_CONTEXT></img>TEXT"
        "<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("write", [write_vocabulary, write_tokenizer_json])
def test_both_file_formats_give_the_ids_worked_out_by_hand(empty: Path, write: object) -> None:
    write(empty)
    tokenizer = load_tokenizer(empty)
    ids = {**vocabulary(), **{token: len(vocabulary()) + i for i, token in enumerate(SPECIAL)}}
    # "he" and " he" are merged; special tokens are one id each wherever they stand; nothing is added around.
    want = [
        ids[token]
        for token in ["<|im_start|>", "he", "t", "Ġhe", "Ċ", "<img>", "<IMG_CONTEXT>", "</img>", "h"]
    ]
    assert tokenizer.encode("<|im_start|>het he\n<img><IMG_CONTEXT></img>h") == want
    assert (tokenizer.image_token_id, tokenizer.pad_token_id) == (ids["<IMG_CONTEXT>"], ids["<|endoftext|>"])


def test_text_is_split_and_composed_as_in_qwen2(small: Path) -> None:
    tokenizer, ids = load_tokenizer(small), vocabulary()
    assert tokenizer.encode("12") == [ids["1"], ids["2"]]  # digits stand alone, whatever could be merged
    assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9") == [ids["Ã"], ids["©"]]


def test_checkpoint_comes_before_the_option(
    small: Path, empty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_vocabulary(empty)
    with caplog.at_level(logging.INFO, "gr00t"):
        assert resolve_tokenizer(small, str(empty)).source == f"the checkpoint ({small})"
    assert f"--tokenizer {empty} is not used" in caplog.text
    assert f"tokens, from the checkpoint ({small})" in caplog.text


def test_option_comes_before_the_hub(empty: Path, small: Path) -> None:
    assert resolve_tokenizer(empty, str(small)).source == f"--tokenizer {small}"


def test_hub_comes_last(empty: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked.append(repository)
        assert "vocab.json" in allow_patterns
        return str(small)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_tokenizer(empty).source == f"the model hub ({HUB_TOKENIZER})"
    assert resolve_tokenizer(empty, "me/mine").source == "--tokenizer me/mine"
    assert asked == [HUB_TOKENIZER, "me/mine"]


def test_not_found_names_all_three_places(empty: Path) -> None:
    with pytest.raises(TokenizerError) as error:
        resolve_tokenizer(empty)
    first, checkpoint, option, hub = str(error.value).splitlines()
    assert first == "no tokenizer found. Tried"
    assert checkpoint == f"  the checkpoint folder {empty}: {tokenizer_module._NO_FILES}"
    assert option == "  --tokenizer: not given"
    assert hub.startswith(f"  the model hub ({HUB_TOKENIZER}): cannot be downloaded (")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("{empty}", "no tokenizer.json, and not both"),
        ("/not/there", "no such folder"),
        ("me/mine", "cannot be downloaded"),
    ],
)
def test_an_option_without_tokenizer_does_not_fall_back_to_the_hub(
    empty: Path, option: str, reason: str
) -> None:
    option = option.format(empty=empty)
    with pytest.raises(TokenizerError) as error:
        resolve_tokenizer(empty, option)
    assert f"--tokenizer {option}: {reason}" in str(error.value)
    assert f"the model hub ({HUB_TOKENIZER}): not tried, since --tokenizer names another one" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json: not a JSON file"),
        ("tokenizer.json", "[]", "tokenizer.json: not a tokenizer file"),
        ("vocab.json", "{", "vocab.json: not a JSON file"),
        ("merges.txt", "x y z\n", "vocab.json and merges.txt do not belong together"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not a JSON file"),
        ("tokenizer_config.json", "{}", r"has no token <\|im_start\|>, <\|im_end\|>, <img>"),
        ("added_tokens.json", '{"<more>": 900}', "token '<more>' has id 900, but 265 fits"),
    ],
)
def test_broken_files_are_named(small: Path, name: str, text: str, message: str) -> None:
    (small / name).write_text(text)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(small)


@pytest.mark.parametrize("change", [{"image_token_index": 1}, {"vocab_size": 100}])
def test_a_tokenizer_of_another_model_is_refused(small: Path, change: dict[str, int]) -> None:
    tokenizer = load_tokenizer(small)
    sizes = {"image_token_index": tokenizer.image_token_id, "vocab_size": len(tokenizer), **change}
    transform = GR00TTransform(max_state_dim=64, max_action_dim=32, state_horizon=1, action_horizon=16)
    with pytest.raises(TokenizerError, match="the tokenizer does not belong to the model"):
        transform.bind(tokenizer, image_size=224, tokens_per_image=256, **sizes)


def test_reading_a_tokenizer_imports_neither_torch_nor_transformers(small: Path) -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from gr00t.model.preprocessing.tokenizer import load_tokenizer;"
        f"load_tokenizer(Path({str(small)!r}));"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    repo = REPO
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
