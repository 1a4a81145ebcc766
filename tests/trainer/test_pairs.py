"""Training sequences of stage 3: what stands in a sequence and what of it is a target."""

import pytest
import torch
from datasets import Dataset
from tiny.language import CODEBOOK_SIZE, NUM_QUERY_TOKENS, build_tokenizer

from seed_hf import SeedImageProcessor, SeedProcessor
from seed_hf.trainer.pairs import PairMaker
from seed_hf.trainer.settings import PairSettings


ROW = {"caption": "a red apple", "codes": [3, 1, 4, 1], "tags": []}


def maker(rows=None, **settings) -> PairMaker:
    processor, settings = SeedProcessor(SeedImageProcessor(), build_tokenizer()), {"task": "caption", **settings}
    return PairMaker(processor, lambda row, draw: [("what is this?", row["caption"])], PairSettings(**settings), rows)


def codes_in(pair: dict, tokenizer) -> list[int]:
    first = tokenizer.convert_tokens_to_ids("<img_00000>")
    return [token - first for token in pair["input_ids"] if first <= token < first + CODEBOOK_SIZE]


def test_only_what_is_to_be_written_is_a_target():
    pairs = maker()
    read, write = (pairs.make(ROW, ROW["codes"], kind) for kind in ("caption", "image"))
    assert codes_in(read, pairs.tokenizer) == codes_in(write, pairs.tokenizer) == ROW["codes"]
    targets = [[token for token in pair["labels"] if token != -100] for pair in (read, write)]
    assert pairs.tokenizer.decode(targets[0], skip_special_tokens=True).strip() == "a red apple"
    assert len(targets[1]) == NUM_QUERY_TOKENS + 3  # <img>, the codes, </img>, end


@pytest.mark.parametrize("setting", ["image_ratio", "code_noise", "mix_images"])
def test_shares_are_shares(setting):
    for value in (-0.1, 50):
        with pytest.raises(ValueError, match=rf"{setting}={value}; allowed: a number in \[0, 1\]"):
            maker(**{setting: value})
    with pytest.raises(ValueError, match="`max_text_tokens` is 0"):
        maker(max_text_tokens=0)


def test_long_captions_and_questions_are_cut_wherever_they_stand():
    long = {**ROW, "caption": "apple " * 3000}
    pairs = maker(task="both", max_text_tokens=8)
    pairs.make_questions = lambda row, draw: [(row["caption"], "yes")]
    lengths = {
        kind: len(pairs.make(long, ROW["codes"], kind)["input_ids"]) for kind in ("caption", "image", "question")
    }
    assert max(lengths.values()) < 40, lengths


def test_mixed_views_take_each_code_from_one_of_them():
    row = {**ROW, "codes": [1] * 4, "augmented_codes": [[2] * 4, [3] * 4]}
    pairs = maker(mix_views=True)
    read = [codes_in(pairs(row, torch.Generator().manual_seed(seed)), pairs.tokenizer) for seed in range(50)]
    assert {code for codes in read for code in codes} == {1, 2, 3}
    assert any(len(set(codes)) > 1 for codes in read)


def test_mixed_images_take_half_their_codes_from_another_image_with_the_same_caption():
    row, same = {**ROW, "codes": [1] * 4}, {**ROW, "codes": [2] * 4}
    rows = Dataset.from_list([row, same, {**ROW, "caption": "a green pear", "codes": [3] * 4}])
    pairs = maker(rows, mix_images=1.0)
    read = [codes_in(pairs(row, torch.Generator().manual_seed(seed)), pairs.tokenizer) for seed in range(200)]
    codes = [code for codes in read for code in codes]
    assert set(codes) == {1, 2}
    # half of the images are mixed with themselves, of the others half the codes change
    assert abs(codes.count(2) / len(codes) - 0.25) < 0.08
    writing = maker(rows, mix_images=1.0, task="both", image_ratio=1.0)
    assert codes_in(writing(row, torch.Generator().manual_seed(0)), writing.tokenizer) == row["codes"]


def test_code_noise_replaces_about_its_share_of_codes_to_read_and_none_to_write():
    row = {**ROW, "codes": [5] * 4}
    noisy, writing = maker(code_noise=0.5), maker(code_noise=0.5, task="both", image_ratio=1.0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(200)]
    read = [code for generator in generators for code in codes_in(noisy(row, generator), noisy.tokenizer)]
    changed = sum(code != 5 for code in read) / len(read)
    # a sixteenth of the replacements gives the same code again
    assert abs(changed - 0.5 * (1 - 1 / CODEBOOK_SIZE)) < 0.08
    assert codes_in(writing(row, generators[0]), writing.tokenizer) == row["codes"]
