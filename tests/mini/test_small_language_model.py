"""The small language model of seed-mini: which words it has tokens for, and where their vectors start."""

import json
import random

import pytest
import torch
from tiny.language import build_base_tokenizer, build_language_model

from seed_hf import SeedTokenizer
from seed_hf.mini.emoji import KINDS, SUBGROUP_NAMES, make_questions, question_texts
from seed_hf.mini.small_language_model import build_small_language_model, train_tokenizer


TEXTS = [" red apple", " blue cat", " cat’s paw", "A photo of", " crown"] + [" red cat"] * 50
WIDTH = 32


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 262, whole_words=True)


def test_every_word_is_one_token_and_others_are_put_together(tokenizer):
    assert tokenizer.tokenize(" red apple") == ["Ġred", "Ġapple"]
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        # the quote is a word of its own
        assert len(ids) == len(text.split()) + 2 * ("’" in text)
    unknown = tokenizer(" crowns und Äpfel", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(unknown) == " crowns und Äpfel" and len(unknown) > 6
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    plain = train_tokenizer(TEXTS, 262)
    assert len(plain) == 262 and len(plain(" crown")["input_ids"]) > 1
    assert tokenizer.eos_token_id == plain.eos_token_id == 0
    assert plain.get_vocab().items() <= tokenizer.get_vocab().items()


def test_words_stay_tokens_beside_image_tokens_and_when_saved(tokenizer, tmp_path):
    seed = SeedTokenizer.from_base_tokenizer(tokenizer, codebook_size=8, num_query_tokens=2)
    seed.save_pretrained(tmp_path)
    loaded = SeedTokenizer.from_pretrained(tmp_path)
    text = "<img><img_00003><img_00005></img>A photo of crown catapult"
    ids = seed(text)["input_ids"]
    first = len(tokenizer)
    assert ids[1:3] == [first + 3, first + 5]
    assert ids[4:] == tokenizer("A photo of crown catapult")["input_ids"]
    assert loaded(text)["input_ids"] == ids and loaded.decode(ids) == seed.decode(ids)


def test_vectors_start_as_the_means_of_the_teachers_pieces(tokenizer, tmp_path):
    sizes = {"hidden_size": WIDTH, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "llama", **sizes, "tie_word_embeddings": True, "attention_dropout": 0.1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    teacher, pieces = build_language_model(), build_base_tokenizer()
    model = build_small_language_model(tmp_path / "config.json", tokenizer, teacher, pieces)
    assert model.config.attention_dropout == model.model.layers[0].self_attn.attention_dropout == 0.1
    table, source = model.get_input_embeddings().weight, teacher.get_input_embeddings().weight
    texts = [tokenizer.decode([index]) for index in range(len(tokenizer))]
    means = torch.stack([source[pieces(text)["input_ids"]].mean(dim=0) for text in texts])
    centred = means - means.mean(dim=0)
    # as wide as the teacher: a rotation and one scale, which keep all angles
    angles = torch.nn.functional.normalize(table, dim=1), torch.nn.functional.normalize(centred, dim=1)
    torch.testing.assert_close(*(each @ each.T for each in angles), rtol=0, atol=1e-3)


def test_questions_and_answers_are_made_of_known_words():
    known = {word for text in question_texts() for word in text.split()}
    known |= {"What", "is", "this?", "kind", "of", "thing", "yes", "no", "name"}
    for subgroup in SUBGROUP_NAMES:
        for seed in range(len(KINDS)):
            pairs = make_questions({"caption": "name", "subgroup": subgroup}, random.Random(seed))
            assert known >= {word for pair in pairs for text in pair for word in text.split()}
