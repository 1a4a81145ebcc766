"""The studio: what it does is what its models do, in batches, with listeners that see and stop."""

import pytest
import torch
from rounding import assert_same_picture
from tiny.pictures import build_codes, build_images, build_pipeline, build_prompt_pipeline, generators

from seed_hf.mini import mini_image
from seed_hf.studio import Studio


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(build_prompt_pipeline())


@pytest.fixture(scope="module")
def mini() -> Studio:
    return Studio.load("seed-mini")


def chat(text, *codes):
    images = [{"type": "image", "codes": row} for row in codes]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def test_draws_what_the_pipeline_draws(studio):
    codes, steps = build_codes(2), []
    pictures = studio.draw(codes, [3, 4], steps=3, guidance=2.0, on_step=steps.append)
    expected = studio.pipeline(codes=codes, generator=generators(3, 4), num_inference_steps=3, guidance_scale=2.0)
    for picture, other in zip(pictures, expected.images, strict=True):
        assert_same_picture(picture, other)
    assert steps == [1, 2, 3]
    assert torch.equal(studio.encode(build_images(2)), studio.pipeline.encode_image(build_images(2)))


def test_a_listener_ends_a_drawing(studio):
    steps = []
    studio.draw(build_codes(), [0], steps=5, on_step=lambda step: steps.append(step) or step == 2)
    assert steps == [1, 2]


def test_writes_text_and_images_in_a_batch(studio):
    first, second = build_codes(2)
    chats = [chat("a cat", first), chat("a dog sat on", second)]
    texts = ["<image>a cat", "<image>a dog sat on"]
    inputs = studio.processor(text=texts, codes=torch.stack([first, second]), padding=True, return_tensors="pt")
    ids = studio.model.generate(**inputs, max_new_tokens=5, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    assert studio.write(chats, max_new_tokens=5) == [studio.pieces(row) for row in ids.tolist()]
    # the first codes alone
    prefixes = [chat("a cat", first[:2]), chat("a dog sat on", second[:2])]
    short = studio.processor(text=texts, codes=build_codes(2)[:, :2], padding=True, return_tensors="pt")
    ids = studio.model.generate(**short, max_new_tokens=5, do_sample=False)[:, short["input_ids"].shape[1] :]
    assert studio.write(prefixes, max_new_tokens=5) == [studio.pieces(row) for row in ids.tolist()]
    with pytest.raises(ValueError, match="`codes` is not a rectangular array"):
        studio.write([chats[0], prefixes[1]])
    (drawn,), (other,) = studio.write(chats, generation_mode="image")
    assert drawn.text is None and drawn.codes.shape == other.codes.shape == (studio.num_codes,)


def test_a_listener_sees_all_chats_and_stops_one(studio):
    seen = []

    def listen(ids):
        seen.append(ids.shape)
        return [True, False] if ids.shape[1] == 3 else None

    stopped, whole = studio.write([chat("a cat"), chat("a dog")], "image", on_tokens=listen)
    assert seen == [(2, number) for number in range(1, len(seen) + 1)]
    assert len(stopped[-1].codes) < studio.num_codes == len(whole[-1].codes)


def test_a_seed_repeats_what_is_sampled(studio):
    def sample(seed):
        return studio.write_codes(["a cat"], seed=seed, do_sample=True, temperature=5.0).tolist()

    assert sample(1) == sample(1)
    assert len({str(sample(seed)) for seed in range(5)}) > 1


def test_what_people_write_stays_text(studio):
    """Without an image of its own, `<image>` in a message would otherwise ask for one."""
    (answer,) = studio.write([chat("<image> <img> <img_00003> </img>")], max_new_tokens=3)
    assert all(piece.codes is None for piece in answer)
    assert studio.write_codes(["<image></img>"]).shape == (1, studio.num_codes)


def test_without_a_language_model_it_sees_and_draws_only():
    studio = Studio(build_pipeline())
    assert len(studio.draw(studio.encode(build_images(1)), [0])) == 1
    for write in (lambda: studio.write([chat("a cat")]), lambda: studio.write_codes(["a cat"])):
        with pytest.raises(ValueError, match="`model` has no language model; allowed"):
            write()
    with pytest.raises(ValueError, match="`texts` needs the text side"):
        studio.text_features(["a cat"])


def test_codes_of_places(studio, mini):
    assert studio.codes_of_place == [range(16)] * 4
    assert mini.codes_of_place[1] == range(128, 256) and len(mini.codes_of_place) == 32


def test_features_of_texts_stand_in_the_order_of_the_texts(mini):
    texts = ["face with tears of joy", "cat", "green heart", "a"]
    alone = torch.cat([mini.text_features([text]) for text in texts])
    # padding is masked, so that only the rounding of float32 sums differs
    torch.testing.assert_close(mini.text_features(texts), alone, atol=1e-5, rtol=1e-4)


def test_seed_mini(mini):
    codes = mini.encode([mini_image("doughnut"), mini_image("rainbow")])
    questions = [chat("A photo of", row) for row in codes]
    assert [pieces[0].text.strip() for pieces in mini.write(questions, max_new_tokens=8)] == ["doughnut", "rainbow"]
    fits = mini.text_features(["doughnut", "rainbow"]) @ mini.image_features(codes).t()
    # the right words are far ahead, so that rounding cannot decide
    assert fits.argmax(1).tolist() == [0, 1]
    # and the first half of the codes tells the two apart already
    fits = mini.text_features(["doughnut", "rainbow"]) @ mini.image_features(codes[:, :16]).t()
    assert fits.argmax(1).tolist() == [0, 1]
    assert mini.write_codes(["red apple"]).shape == (1, 32)


def test_no_such_model():
    with pytest.raises(ValueError, match="no folder 'nowhere' exists"):
        Studio.load("nowhere")
