"""A Q-Former's feed-forward that is narrower than BERT's keeps the units that weigh most."""

import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from seed_hf.trainer.init_from_bert import copy_feed_forward


def test_a_narrower_feed_forward_does_the_same_where_the_left_out_units_are_nothing():
    sizes = {"hidden_size": 8, "num_attention_heads": 2}
    source, narrow = (BertLayer(BertConfig(intermediate_size=size, **sizes)).eval() for size in (6, 4))
    with torch.no_grad():
        source.output.dense.weight[:, [1, 3]] = 0
        copy_feed_forward(narrow, source)
        hidden = torch.randn(2, 3, 8)
        wide, small = (layer.output(layer.intermediate(hidden), hidden) for layer in (source, narrow))
    torch.testing.assert_close(wide, small)
