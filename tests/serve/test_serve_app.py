"""The server over HTTP, with the client of OpenAI."""

import base64
import io

import openai
import pytest
from PIL import Image
from rounding import assert_same_picture
from tiny.pictures import build_images
from tiny.serve import build_studio, serving

from seed_hf.serve.pictures import to_data_uri


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    return build_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="module")
def url(studio):
    with serving(studio) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def picture_of(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2] or data)))


def image_message(*images, words="what is this?"):
    parts = [{"type": "image_url", "image_url": {"url": to_data_uri(image)}} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]


def studio_answer(studio, words, images=(), **settings):
    parts = [{"type": "image", "codes": codes} for codes in (studio.encode(list(images)) if images else [])]
    chat = [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]
    return studio.write([chat], **settings)[0]


def test_a_chat_about_an_image(client, studio):
    (image,) = build_images(1)
    answer = client.chat.completions.create(model="toy", messages=image_message(image), max_tokens=6)
    (piece,) = studio_answer(studio, "what is this?", [image], max_new_tokens=6)
    assert answer.choices[0].message.content == piece.text.lstrip()
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 6


def test_an_answer_that_is_a_picture(client, studio):
    settings = {"model": "toy", "messages": [{"role": "user", "content": "a cat"}], "seed": 3}
    answer = client.chat.completions.create(**settings, extra_body={"modalities": ["image"]})
    (piece,) = studio_answer(studio, "a cat", generation_mode="image")
    (part,) = answer.choices[0].message.images
    assert part["codes"] == piece.codes.tolist()
    assert_same_picture(picture_of(part["image_url"]["url"]), studio.draw(piece.codes[None], [3])[0])
    # the answer goes back as it came
    chat = [*settings["messages"], {"role": "assistant", "content": answer.choices[0].message.parts}]
    again = client.chat.completions.create(model="toy", messages=[*chat, *settings["messages"]], max_tokens=2)
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens + studio.num_codes


def test_pictures_of_words(client, studio):
    made = client.images.generate(model="toy", prompt="a cat", n=2, extra_body={"seed": 5})
    codes = studio.write_codes(["a cat"])
    assert [picture.codes for picture in made.data] == codes.tolist() * 2
    for picture, drawn in zip(made.data, studio.draw(codes.repeat(2, 1), [5, 6]), strict=True):
        assert_same_picture(picture_of(picture.b64_json), drawn)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").id == "toy"
    with pytest.raises(openai.NotFoundError, match="`model` is 'other'; allowed: 'toy'"):
        client.models.retrieve("other")
