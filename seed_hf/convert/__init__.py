"""Converts released or foreign weights to folders of this package, and back; `seed-hf convert` calls it.

Example:

```python
>>> import tempfile, torch
>>> from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
>>> from seed_hf.convert import convert_image_tokenizer, write_original
>>> blocks = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
>>> config = SeedImageTokenizerConfig(vision_config=dict(blocks, image_size=28), qformer_config=blocks,
...     decoder_config=blocks, reverse_qformer_config=dict(blocks, encoder_hidden_size=24), codebook_size=16)
>>> folder = tempfile.mkdtemp()
>>> SeedImageTokenizer(config).save_pretrained(folder + "/trained")
>>> paths = write_original(folder + "/trained", folder + "/original")
>>> [path.name for path in paths]
['eva_vit_g.pth', 'causal_qformer.pth', 'seed_tokenizer.pth']
>>> report = convert_image_tokenizer(paths, folder + "/converted", "seed-1", config=config)
>>> report.used["vision_model.encoder.layers.0.self_attn.qkv.bias"]
['visual_encoder.blocks.0.attn.q_bias', 'visual_encoder.blocks.0.attn.v_bias']

```
"""

from ..models.peft_seed import merge_adapters
from .export import export_language_model
from .image_tokenizer import convert_image_tokenizer, original_state_dict, published_config, write_original
from .key_tables import KeyReport
from .language_model import convert_language_model, write_original_language_model
from .pipeline import assemble_pipeline, fetch_decoder
from .seed_keys import convert_state_dict, load_original, revert_state_dict


__all__ = [
    "KeyReport",
    "assemble_pipeline",
    "convert_image_tokenizer",
    "convert_language_model",
    "convert_state_dict",
    "export_language_model",
    "fetch_decoder",
    "load_original",
    "merge_adapters",
    "original_state_dict",
    "published_config",
    "revert_state_dict",
    "write_original",
    "write_original_language_model",
]
