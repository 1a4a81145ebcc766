"""What a run does with its machine beside what tests/training/test_recipes.py looks at: compiled blocks."""

import pytest
import torch
from tiny.image_tokenizer import tiny_image_tokenizer, tiny_pixels

from seed_hf.trainer.launch import compile_blocks


def test_compiled_blocks_share_a_graph_and_keep_codes_and_names():
    model, pixels = tiny_image_tokenizer(), tiny_pixels()
    embeds, names = model.get_causal_embeds(pixels), set(model.state_dict())
    graphs = []

    def note_graph(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    layers = model.vision_model.encoder.layers
    with torch.no_grad():
        compile_blocks(model.vision_model.encoder, backend=note_graph)
        torch.testing.assert_close(model.get_causal_embeds(pixels), embeds.detach())
    torch._dynamo.reset()
    assert len(layers) > 1 and len(graphs) == 1
    assert set(model.state_dict()) == names


def test_only_models_with_repeated_blocks_are_compiled():
    with pytest.raises(ValueError, match="Linear without repeated blocks"):
        compile_blocks(torch.nn.Linear(2, 2))
