"""Start the Q-Former's weights from a pretrained BERT, as the original's does, keeping only the words needed."""

import json

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, BertTokenizerFast

from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


def prune_vocabulary(
    tokenizer: BertTokenizerFast, texts: list[str], num_frequent: int
) -> tuple[BertTokenizerFast, list[int]]:
    """Makes a smaller WordPiece vocabulary.

    It has the special tokens, single characters (so that nothing becomes unknown), every piece that `texts` use, and
    the most frequent words of the old one (BERT's vocabulary is ordered by frequency).

    Args:
        tokenizer (`BertTokenizerFast`): Tokenizer with the whole vocabulary.
        texts (`list[str]`): Texts whose pieces must stay.
        num_frequent (`int`): Number of the most frequent words of the old vocabulary to keep.

    Returns:
        `tuple[BertTokenizerFast, list[int]]`: The new tokenizer; the old id of each new id.
    """
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    used = {piece for text in texts for piece in tokenizer.tokenize(text)} | set(tokenizer.all_special_tokens)
    words = [piece for piece, _ in pieces if not piece.startswith("[unused")]
    frequent = {piece for piece in words if len(piece.removeprefix("##")) > 1 and piece.isascii()}
    frequent = set([piece for piece in words if piece in frequent][:num_frequent])
    kept = [
        (p, i) for p, i in pieces if p in used or p in frequent or (p.isascii() and len(p.removeprefix("##")) == 1)
    ]
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"] = {piece: index for index, (piece, _) in enumerate(kept)}
    state["added_tokens"] = [t | {"id": state["model"]["vocab"][t["content"]]} for t in state["added_tokens"]]
    for name, entry in state["post_processor"]["special_tokens"].items():
        entry["ids"] = [state["model"]["vocab"][name]]
    pruned = BertTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), model_max_length=tokenizer.model_max_length
    )
    return pruned, [index for _, index in kept]


def load_text_tower(folder: str) -> tuple[BertTokenizerFast, torch.nn.Module]:
    """Tokenizer and model of a BERT folder or Hub id."""
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def init_from_bert(model: SeedImageTokenizer, bert: torch.nn.Module, kept_ids: list[int] | None = None) -> list[int]:
    """Copies a BERT into the Causal Q-Former.

    That is embeddings, self-attention, text feed-forward, and the query feed-forward as a copy of the text one.
    Cross-attention and query tokens keep their new weights. With fewer layers here than there, evenly spaced ones are
    taken; with a narrower feed-forward, those of its units that weigh most.

    Args:
        model ([`SeedImageTokenizer`]): Model with `use_text_tower`.
        bert (`BertModel`): BERT of the same width.
        kept_ids (`list[int]`, *optional*): Rows of the word embeddings to take; see [`prune_vocabulary`].

    Returns:
        `list[int]`: The layers taken.

    Raises:
        ValueError: If widths differ.
    """
    target = model.causal_qformer
    hidden_size = target.qformer.config.hidden_size
    if bert.config.hidden_size != hidden_size:
        raise ValueError(f"`bert` has hidden_size {bert.config.hidden_size}; allowed: {hidden_size}, the Q-Former's.")
    embeddings = bert.embeddings
    # the Q-Former has no token-type embeddings: the one of sentence A joins every word
    words = embeddings.word_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    target.text_embeddings.word_embeddings.weight.copy_(words if kept_ids is None else words[kept_ids])
    positions = target.text_embeddings.position_embeddings.weight
    positions.copy_(embeddings.position_embeddings.weight[: len(positions)])
    target.qformer.layernorm.load_state_dict(embeddings.LayerNorm.state_dict())
    count, available = len(target.qformer.encoder.layer), len(bert.encoder.layer)
    taken = [round(i * (available - 1) / max(count - 1, 1)) for i in range(count)]
    for layer, source in zip(target.qformer.encoder.layer, (bert.encoder.layer[i] for i in taken), strict=True):
        for name in ("query", "key", "value"):
            getattr(layer.attention.attention, name).load_state_dict(getattr(source.attention.self, name).state_dict())
        layer.attention.output.load_state_dict(source.attention.output.state_dict())
        copy_feed_forward(layer, source)
    target.copy_text_layers_to_query()
    return taken


def copy_feed_forward(layer: torch.nn.Module, source: torch.nn.Module) -> None:
    """Copies a feed-forward, or as many of its units as there is room for: those whose weights, in times out, are
    largest."""
    into, out = source.intermediate.dense, source.output.dense
    weight = into.weight.norm(dim=1) * out.weight.norm(dim=0)
    units = weight.topk(layer.intermediate.dense.out_features).indices.sort().values
    layer.intermediate.dense.weight.copy_(into.weight[units])
    layer.intermediate.dense.bias.copy_(into.bias[units])
    layer.output.load_state_dict(source.output.state_dict() | {"dense.weight": out.weight[:, units]})
