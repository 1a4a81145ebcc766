"""A handful of the shipped emoji drawings, a toy BERT and a toy image tokenizer, as the training scripts take them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast

from tiny import EMOJI


HIDDEN_SIZE = 32


def write_emoji(folder, num_train=16, num_validation=12, style="twemoji"):
    """Writes rows of one style, all with different names, as the two splits that scripts read; returns the glob."""
    rows = [row for row in pq.read_table(EMOJI / "train.parquet").to_pylist() if row["style"] == style]
    rows = list({row["caption"]: row for row in rows if not row["is_flag"]}.values())[: num_train + num_validation]
    schema = pq.read_schema(EMOJI / "train.parquet")
    for split, part in {"train": rows[:num_train], "validation": rows[num_train:]}.items():
        part = [{**row, "split": split} for row in part]
        pq.write_table(pa.Table.from_pylist(part, schema=schema), Path(folder) / f"{split}.parquet")
    return str(Path(folder) / "*.parquet")


def save_bert(folder):
    """A two-layer BERT of width 32 whose vocabulary is single letters; returns the folder."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-:,.'"
    vocabulary = {piece: i for i, piece in enumerate([*specials, *letters, *(f"##{letter}" for letter in letters)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def write_image_tokenizer_config(path, **changes):
    """Writes the configuration of a toy SEED-1 with dropout and a moving codebook; returns the path."""
    attention = {"hidden_size": HIDDEN_SIZE, "intermediate_size": 64, "num_attention_heads": 4}
    config = {
        "model_type": "seed_image_tokenizer",
        "vision_config": {**attention, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        "qformer_config": {**attention, "num_hidden_layers": 2, "max_position_embeddings": 32, "vocab_size": 90},
        "decoder_config": {**attention, "num_hidden_layers": 1},
        "reverse_qformer_config": {**attention, "num_hidden_layers": 1, "encoder_hidden_size": HIDDEN_SIZE},
        "num_query_tokens": 4,
        "codebook_size": 16,
        "code_dim": 8,
        "projection_dim": 16,
        "use_text_tower": True,
        "use_reconstruction_decoder": True,
        "generation_head": "text",
        "num_generation_tokens": 16,
        "generation_dim": HIDDEN_SIZE,
        "normalize_codes": True,
        "codebook_ema_decay": 0.9,
        "dead_code_steps": 2,
    }
    Path(path).write_text(json.dumps(config | changes))
    return str(path)
