"""Toy language models, tokenizers and chat templates for the tests: real classes, fixed seed, made in milliseconds."""

import copy

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from seed_hf import SeedForCausalLM, SeedImageTokenizer, SeedImageTokenizerConfig, SeedTokenizer


CODEBOOK_SIZE = 16
NUM_QUERY_TOKENS = 4
CODE_DIM = 8
ARCHITECTURES = ("opt", "llama", "gpt2", "qwen2")
# what the installed transformers calls keys and values of earlier positions
CACHE_NAME = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

# what `build_seed_model` copies
_BUILT = {}
_TEXT = (
    "a photo of a red apple",
    "a photo of a blue cat on the moon",
    "Generate an image: a green pear",
    "Question: what is this? Short answer: an orange diamond",
)


def placeholder_span(layout) -> list[int]:
    """Token ids of an image span whose codes are not known yet."""
    return [layout.boi_token_id, *[layout.image_placeholder_token_id] * layout.num_query_tokens, layout.eoi_token_id]


def build_base_tokenizer(kind: str = "gpt2") -> PreTrainedTokenizerFast:
    """A byte-level BPE (`"gpt2"`) or a metaspace BPE with a begin token (`"llama"`), trained on four sentences."""
    if kind == "gpt2":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        specials, alphabet = ["<|endoftext|>"], pre_tokenizers.ByteLevel.alphabet()
        names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        specials, alphabet = ["<unk>", "<s>", "</s>"], []
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    if kind == "llama":
        bos = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[bos]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def build_language_model(
    architecture: str = "llama", vocab_size: int = 320, tied: bool = True, seed: int = 0, width: int = 32
):
    """A two-layer causal LM with random weights, in eval mode."""
    torch.manual_seed(seed)
    shared = {"vocab_size": vocab_size, "tie_word_embeddings": tied, "initializer_range": 0.1}
    shared |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if architecture == "opt":
        sizes = {"hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": 2 * width, "num_hidden_layers": 2}
        config = OPTConfig(**shared, **sizes, num_attention_heads=4, max_position_embeddings=128, init_std=0.1)
        return OPTForCausalLM(config).eval()
    if architecture == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**shared, n_embd=width, n_layer=2, n_head=4, n_positions=128)).eval()
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 128}
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shared, **sizes)).eval()
    return LlamaForCausalLM(LlamaConfig(**shared, **sizes)).eval()


def build_codebook(seed: int = 0) -> torch.Tensor:
    """A random codebook of shape `(CODEBOOK_SIZE, CODE_DIM)`."""
    return torch.randn(CODEBOOK_SIZE, CODE_DIM, generator=torch.Generator().manual_seed(seed))


def build_codes(num_images: int = 1, seed: int = 0) -> torch.Tensor:
    """Random codes of shape `(num_images, NUM_QUERY_TOKENS)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, CODEBOOK_SIZE, (num_images, NUM_QUERY_TOKENS), generator=generator)


def build_tokenizer(kind: str = "gpt2", **kwargs):
    """A SeedTokenizer on top of a toy tokenizer: 320 text tokens at most, `CODEBOOK_SIZE` image tokens, 3 specials."""
    settings = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": NUM_QUERY_TOKENS}
    return SeedTokenizer.from_base_tokenizer(build_base_tokenizer(kind), **{**settings, **kwargs})


def build_seed_model(architecture: str = "llama", embedding: str = "projected_codes", tied: bool = True):
    """A SeedForCausalLM around a toy LM, and its tokenizer: copies, as building takes five times as long."""
    key = (architecture, embedding, tied)
    if key not in _BUILT:
        tokenizer = build_tokenizer()
        language_model = build_language_model(architecture, tied=tied)
        torch.manual_seed(1)
        model = SeedForCausalLM.from_language_model(
            language_model, tokenizer, codebook=build_codebook(), image_token_embedding=embedding
        )
        _BUILT[key] = (model, tokenizer), torch.get_rng_state()
    built, state = _BUILT[key]
    torch.set_rng_state(state)  # what a test draws next is what it would draw after building
    return copy.deepcopy(built)


def check_grammar(ids: list[int], layout):
    """Every `<img>` is followed by exactly `num_query_tokens` image tokens and `</img>`; none stand elsewhere."""
    position = 0
    while position < len(ids):
        if ids[position] == layout.boi_token_id:
            codes = ids[position + 1 : position + 1 + layout.num_query_tokens]
            end = position + 1 + layout.num_query_tokens
            assert all(layout.first_image_token_id <= i < layout.end_image_token_id for i in codes), ids
            assert len(codes) == layout.num_query_tokens and ids[end : end + 1] == [layout.eoi_token_id], ids
            position = end + 1
        else:
            assert ids[position] < layout.first_image_token_id, ids
            position += 1


def build_image_tokenizer(seed: int = 0):
    """A SeedImageTokenizer with the sizes of this file, 28 px images, in eval mode."""
    torch.manual_seed(seed)
    transformer = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = SeedImageTokenizerConfig(
        vision_config={"hidden_size": 32, "image_size": 28, "patch_size": 14, **transformer},
        qformer_config={"hidden_size": 48, "vocab_size": 50, **transformer},
        reverse_qformer_config={"hidden_size": 48, "vocab_size": 50, **transformer},
        num_query_tokens=NUM_QUERY_TOKENS,
        codebook_size=CODEBOOK_SIZE,
        code_dim=CODE_DIM,
        num_generation_tokens=3,
        generation_dim=16,
        initializer_range=0.2,
    )
    return SeedImageTokenizer(config).eval()
