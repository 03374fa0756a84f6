"""The tokenizer of the Eagle processor: Qwen2's byte-level BPE with Eagle's image tokens.

It is built with the `tokenizers` library alone: importing transformers' tokenizer classes costs seconds, this
30 ms. The data files are not part of this project; they lie in the checkpoint, in a folder of the user's, or
on the model hub.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gr00t.files.home import expanded
from gr00t.files.lfs_pointer import LFS_POINTER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

HUB_TOKENIZER = "lerobot/eagle2hg-processor-groot-n1p5"
IMAGE_TOKEN = "<IMG_CONTEXT>"
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", IMAGE_TOKEN)
PAD_TOKEN = "<|endoftext|>"

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json")
# Qwen2's split into words before the byte-level merges: contractions, letters, single digits, the rest.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class TokenizerError(ValueError):
    """No tokenizer, or one that does not belong to the model; the message says what was tried."""


class PromptTokenizer:
    """Text to token ids. Special tokens in the text become their single ids; nothing is added around it."""

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        """Wrap a `tokenizers.Tokenizer`; `source` says in errors and logs where it was found.

        Raises:
            TokenizerError: it lacks one of the special tokens that prompts are built of.
        """
        ids = {token: tokenizer.token_to_id(token) for token in (*SPECIAL_TOKENS, PAD_TOKEN)}
        missing = [token for token, number in ids.items() if number is None]
        if missing:
            raise TokenizerError(
                f"the tokenizer of {source} has no token {', '.join(missing)}; "
                f"expected that of {HUB_TOKENIZER}"
            )
        self._tokenizer = tokenizer
        self.source = source
        self.image_token_id, self.pad_token_id = (cast(int, ids[token]) for token in (IMAGE_TOKEN, PAD_TOKEN))

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def load_tokenizer(folder: Path, source: str | None = None) -> PromptTokenizer | None:
    """Read the tokenizer of a folder: tokenizer.json, else vocab.json + merges.txt; None if it has neither.

    Raises:
        TokenizerError: the files cannot be read as what they claim to be.
    """
    source = source or str(folder)
    from tokenizers import Tokenizer

    # The library reports bad files by a bare Exception, so what can be checked is checked before.
    if (folder / "tokenizer.json").is_file():
        text = _read(folder / "tokenizer.json")
        content = _parse(text, folder / "tokenizer.json")
        if not isinstance(content, dict) or "model" not in content:
            raise TokenizerError(f"{folder / 'tokenizer.json'}: not a tokenizer file")
        return PromptTokenizer(Tokenizer.from_str(text), source)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return PromptTokenizer(_from_vocabulary(folder), source)
    return None


def resolve_tokenizer(
    checkpoint: Path | Sequence[Path], override: str | None = None, named: str | None = None
) -> PromptTokenizer:
    """Find the tokenizer: the checkpoint's folder, else `override`, else `named`, else the model hub.

    Args:
        checkpoint: its folder, or folders.
        override: a folder or a hub id of the user's.
        named: the same, as the checkpoint itself says where its tokenizer is; None: it does not.

    Raises:
        TokenizerError: none of them has one; the message names all and what was tried.
    """
    folders = [checkpoint] if isinstance(checkpoint, Path) else checkpoint
    tried = [f"the checkpoint folder {folder}: {_NO_FILES}" for folder in folders]
    found = None
    for folder in folders:
        found = found or load_tokenizer(folder, f"the checkpoint ({folder})")
    if found is not None and override is not None:
        logger.warning("the checkpoint brings its own tokenizer; --tokenizer %s is not used", override)
    if found is None and override is not None:
        found = _from_place(override, f"--tokenizer {override}", tried)
        if found is None:
            tried.append(f"the model hub ({HUB_TOKENIZER}): not tried, since --tokenizer names another one")
    elif found is None:
        tried.append("--tokenizer: not given")
        if named is not None and named != HUB_TOKENIZER:
            found = _from_place(named, f"{named}, which the checkpoint names", tried)
        else:
            found = _from_hub(HUB_TOKENIZER, f"the model hub ({HUB_TOKENIZER})", tried)
    if found is None:
        raise TokenizerError("no tokenizer found. Tried\n  " + "\n  ".join(tried))
    logger.info("tokenizer: %d tokens, from %s", len(found), found.source)
    return found


def _from_place(place: str, source: str, tried: list[str]) -> PromptTokenizer | None:
    """Return the tokenizer of a folder or a hub repository; what went wrong is appended to `tried`."""
    folder = expanded(place)
    if folder.is_dir():
        tried.append(f"{source}: {_NO_FILES}")
        return load_tokenizer(folder, source)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        return _from_hub(place, source, tried)
    tried.append(f"{source}: no such folder")
    return None


_NO_FILES = "no tokenizer.json, and not both vocab.json and merges.txt"


def _from_hub(repository: str, source: str, tried: list[str]) -> PromptTokenizer | None:
    """Return the tokenizer of a hub repository; what went wrong is appended to `tried`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(TOKENIZER_FILES)))
    except (
        HfHubHTTPError,
        OSError,
    ) as error:  # no network, nothing cached: LocalEntryNotFoundError, an OSError
        reason = str(error).strip().splitlines() or [type(error).__name__]
        tried.append(f"{source}: cannot be downloaded ({reason[0]})")
        return None
    found = load_tokenizer(folder, source)
    if found is None:
        tried.append(f"{source}: {_NO_FILES}")
    return found


def _from_vocabulary(folder: Path) -> Tokenizer:
    """Build Qwen2's tokenizer from its vocabulary, its merges and the tokens added to it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = _parse(_read(folder / "vocab.json"), folder / "vocab.json")
    lines = _read(folder / "merges.txt").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    bad = [line for line in merges if len(line) != 2 or "".join(line) not in vocabulary]
    if not isinstance(vocabulary, dict) or bad:
        raise TokenizerError(f"{folder}: vocab.json and merges.txt do not belong together")
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=cast("list[tuple[str, str]]", merges), byte_fallback=False)
    )
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # In the order of their ids: the library numbers them as they come.
    for token_id, token in sorted(_added_tokens(folder).items()):
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        if tokenizer.token_to_id(token) != token_id:
            raise TokenizerError(
                f"{folder}: token {token!r} has id {token_id}, but {tokenizer.token_to_id(token)} fits"
            )
    return tokenizer


def _added_tokens(folder: Path) -> dict[int, str]:
    """Return id -> text of the tokens outside the vocabulary."""
    tokens: dict[int, str] = {}
    if (path := folder / "added_tokens.json").is_file():
        tokens |= {int(token_id): text for text, token_id in _parse(_read(path), path).items()}
    if (path := folder / "tokenizer_config.json").is_file():
        decoder = _parse(_read(path), path).get("added_tokens_decoder", {})
        tokens |= {int(token_id): token["content"] for token_id, token in decoder.items()}
    return tokens


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path}: not a JSON file: {error}") from error


def _read(path: Path) -> str:
    """The text of a file, which Git LFS may not have fetched.

    Raises:
        TokenizerError: it did not, or the file is no text.
    """
    content = path.read_bytes()
    if content.startswith(LFS_POINTER):
        raise TokenizerError(f"{path} is a pointer of Git LFS, not the file; run: git lfs pull")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: not UTF-8: {error}") from None
