"""A small causal LM with new weights, for data too small and machines too slow for a pretrained one.

Its tokenizer is trained on the texts at hand; its token vectors start from those of a pretrained LM, so that words of
like meaning begin alike.
"""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from seed_hf import SeedForCausalLM, SeedImageTokenizer


END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: list[str], vocab_size: int, whole_words: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE: frequent words are one token, and any text can be written.

    Args:
        texts (`list[str]`): Texts to learn words from.
        vocab_size (`int`): Tokens at most.
        whole_words (`bool`, defaults to `False`): Give every other word of the texts a token too, beyond `vocab_size`.
            What is trained on these texts then never sees a piece as a target, and does not put words together that
            do not exist; pieces are left for words that only a user knows.

    Returns:
        `PreTrainedTokenizerFast`: with one special token, the end of text.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
        ),
    )
    if whole_words:
        backend = _add_words(backend, texts)
    names = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def _add_words(backend: Tokenizer, texts: list[str]) -> Tokenizer:
    """The tokenizer with each word of the texts as one token, whatever its merges say."""
    words = {word for text in set(texts) for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)}
    state = json.loads(backend.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary |= {word: len(vocabulary) + place for place, word in enumerate(sorted(words - vocabulary.keys()))}
    state["model"]["ignore_merges"] = True  # a word that has a token is not put together
    return Tokenizer.from_str(json.dumps(state))


@torch.no_grad()
def build_small_language_model(
    config_file: str,
    tokenizer: PreTrainedTokenizerFast,
    teacher: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerFast,
) -> PreTrainedModel:
    """New weights; token vectors are the teacher's, on their principal axes.

    Args:
        config_file (`str`): Configuration of any causal LM; its `vocab_size` is set from the tokenizer.
        tokenizer (`PreTrainedTokenizerFast`): See [`train_tokenizer`].
        teacher (`PreTrainedModel`): A pretrained LM at least as wide.
        teacher_tokenizer (`PreTrainedTokenizerFast`): Tokenizer of the teacher.

    Returns:
        `PreTrainedModel`
    """
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(config_file, vocab_size=len(tokenizer), **ids), dtype=torch.float32
    )
    table = model.get_input_embeddings().weight
    source = teacher.get_input_embeddings().weight.float()
    strings = [tokenizer.decode([index]) for index in range(len(tokenizer))]
    pieces = teacher_tokenizer(strings, add_special_tokens=False)["input_ids"]
    vectors = torch.stack([source[ids].mean(dim=0) if ids else source.mean(dim=0) for ids in pieces])
    vectors -= vectors.mean(dim=0)
    axes = torch.linalg.svd(vectors, full_matrices=False).Vh[: table.shape[1]]
    projected = vectors @ axes.T
    table.copy_(projected * (model.config.initializer_range / projected.std()))
    return model


@torch.no_grad()
def start_image_tokens(model: SeedForCausalLM, image_tokenizer: SeedImageTokenizer, codes: torch.Tensor) -> None:
    """Each code's learned vector starts as the mean image feature of the images that have the code, centred.

    With `codebook_per_query`, where a code means the same wherever it stands, images that are alike then look alike
    to the language model from the first step on.

    Args:
        model ([`SeedForCausalLM`]): Model with `image_token_embedding="learned"`; changed in place.
        image_tokenizer ([`SeedImageTokenizer`]): Image tokenizer of stage 2 with its text tower.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes of training images.
    """
    features = torch.cat([image_tokenizer.get_image_features(codes=part).pooler_output for part in codes.split(256)])
    features -= features.mean(dim=0)
    size, width = image_tokenizer.config.codebook_size, features.shape[1]
    counts = torch.bincount(codes.flatten(), minlength=size).clamp(min=1).unsqueeze(1)
    sums = torch.zeros(size, width).index_add_(0, codes.flatten(), features.repeat_interleave(codes.shape[1], dim=0))
    table = model.get_input_embeddings().weight
    first = model.config.image_token_layout.first_image_token_id
    rotation = torch.nn.init.orthogonal_(torch.empty(width, table.shape[1]))
    vectors = sums / counts @ rotation
    table[first : first + size] = vectors * (table[:first].std() / vectors.std())
