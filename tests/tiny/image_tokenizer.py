"""Toy image tokenizers: the real classes at a size that is built in milliseconds."""

import torch

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig


TINY = {
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 28,
        "initializer_range": 0.02,
    },
    "qformer_config": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 50,
        "max_position_embeddings": 16,
    },
    "decoder_config": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "initializer_range": 0.02,
    },
    "reverse_qformer_config": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "encoder_hidden_size": 48,
    },
    "num_query_tokens": 8,
    "codebook_size": 64,
    "code_dim": 16,
    "projection_dim": 24,
    "num_generation_tokens": 6,
    "generation_dim": 32,
    "use_text_tower": True,
    "use_reconstruction_decoder": True,
}
# for what traces a graph, which takes a second for each layer
SHALLOW = {part: {**TINY[part], "num_hidden_layers": 1} for part in TINY if part.endswith("_config")}


def tiny_image_tokenizer(seed: int = 0, **config) -> SeedImageTokenizer:
    """A toy model in evaluation mode, with codes spread over its codebook."""
    torch.manual_seed(seed)
    model = SeedImageTokenizer(SeedImageTokenizerConfig(**{**TINY, **config})).eval()
    with torch.no_grad():
        # fresh code vectors are so small that every image would get the same few codes
        torch.nn.init.normal_(model.quantizer.embedding.weight, std=0.3)
        for parameter in (*model.quantizer.encode_layers.parameters(), model.causal_qformer.query_tokens):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_pixels(batch_size: int = 2, seed: int = 0) -> torch.Tensor:
    """Random `pixel_values` of the toy model's size."""
    return torch.randn(batch_size, 3, 28, 28, generator=torch.Generator().manual_seed(seed))
