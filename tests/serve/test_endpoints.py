"""The endpoints, asked with the client of OpenAI."""

import base64
import io
import json
import struct
import zlib

import httpx
import pytest
import torch
from rounding import assert_equal_up_to_rounding, assert_same_picture
from tiny.pictures import build_images
from tiny.serve import data_uri, picture_of

from seed_hf.models.image_limits_seed import IMAGE_LIMITS
from seed_hf.serve.pictures import to_base64
from seed_hf.serve.streams import News
from seed_hf.studio import Piece


def image_message(*images, words="what is this?"):
    parts = [{"type": "image_url", "image_url": {"url": data_uri(image)}} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]


def studio_answer(studio, words, images=(), **settings):
    parts = [{"type": "image", "codes": codes} for codes in (studio.encode(list(images)) if images else [])]
    chat = [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]
    return studio.write([chat], **settings)[0]


def test_a_chat_about_an_image(client, studio):
    (image,) = build_images(1)
    settings = {"model": "toy", "messages": image_message(image), "max_tokens": 6}
    answer = client.chat.completions.create(**settings, extra_body={"raw": True})
    (piece,) = studio_answer(studio, "what is this?", [image], max_new_tokens=6)
    assert answer.choices[0].message.content == piece.text.lstrip()
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 6
    # by default the newest message becomes the prompt that the model was trained on
    for words in ("what is this?", ""):
        settings["messages"] = image_message(image, words=words)
        parts = [{"type": "image", "codes": studio.encode([image])[0]}, {"type": "text", "text": words}]
        (piece,) = studio.reply([{"role": "user", "content": parts}], max_new_tokens=6)
        assert client.chat.completions.create(**settings).choices[0].message.content.strip() == piece.text


def test_an_answer_that_is_a_picture(client, studio):
    settings = {"model": "toy", "messages": [{"role": "user", "content": "Draw a cat"}], "seed": 3}
    answer = client.chat.completions.create(**settings, extra_body={"modalities": ["image"]})
    codes = studio.write_codes(["a cat"])
    (part,) = answer.choices[0].message.images
    assert part["codes"] == codes[0].tolist()
    assert_same_picture(picture_of(part["image_url"]["url"]), studio.draw(codes, [3])[0])
    # the answer goes back as it came
    chat = [*settings["messages"], {"role": "assistant", "content": answer.choices[0].message.parts}]
    again = client.chat.completions.create(model="toy", messages=[*chat, *settings["messages"]], max_tokens=2)
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens + studio.num_codes
    chat[1] = answer.choices[0].message
    as_it_came = client.chat.completions.create(model="toy", messages=[*chat, *settings["messages"]], max_tokens=2)
    assert as_it_came.usage.prompt_tokens == again.usage.prompt_tokens


def test_words_are_streamed_and_stop(client):
    settings = {"model": "toy", "messages": image_message(words="a photo of"), "max_tokens": 24, "seed": 7}
    whole = client.chat.completions.create(**settings).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    before = whole.partition(stop)[0]
    assert client.chat.completions.create(**settings, stop=[stop]).choices[0].message.content == before
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for stops, expected in ((None, whole), (["never there", stop], before)):
        *chunks, last = client.chat.completions.create(**settings, **options, stop=stops)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
        assert chunks[-1].choices[0].finish_reason == ("stop" if stops else "length") and not last.choices
        assert chunks[-1].choices[0].seed == 7
        assert last.usage.completion_tokens == 24 if stops is None else last.usage.completion_tokens < 24


def test_news_are_what_was_not_sent():
    news, codes = News(stop=("END",)), torch.tensor([3, 1, 2])
    assert news.of([Piece(text=" a c\ufffd")]) == [{"content": "a c"}]
    assert news.of([Piece(text=" a caf\u00e9 EN")]) == [{"content": "af\u00e9 "}]
    assert news.of([Piece(text=" a caf\u00e9 ENTER"), Piece(codes=codes[:2])]) == [
        {"content": "ENTER"},
        {"codes": [3, 1], "image_index": 0},
    ]
    pieces = [Piece(text=" a caf\u00e9 ENTER"), Piece(codes=codes), Piece(text=" E")]
    assert news.of(pieces) == [{"codes": [2], "image_index": 0}, {"content": " "}]
    assert news.of(pieces, is_finished=True) == [{"content": "E"}]


def test_codes_and_previews_are_streamed(client, studio):
    settings = {"model": "toy", "messages": [{"role": "user", "content": "a cat"}], "seed": 3}
    extra = {"generation_mode": "image", "partial_images": 1, "raw": True}
    deltas = [
        chunk.choices[0].delta for chunk in client.chat.completions.create(**settings, stream=True, extra_body=extra)
    ]
    (piece,) = studio_answer(studio, "a cat", generation_mode="image")
    assert sum((delta.codes for delta in deltas if hasattr(delta, "codes")), []) == piece.codes.tolist()
    preview, picture = (delta.images[0] for delta in deltas if hasattr(delta, "images"))
    assert preview["is_partial"] and "is_partial" not in picture
    half = piece.codes[None, : studio.num_codes // 2]
    assert_same_picture(picture_of(preview["image_url"]["url"]), studio.draw(half, [3], steps=4)[0])
    assert_same_picture(picture_of(picture["image_url"]["url"]), studio.draw(piece.codes[None], [3])[0])


def test_answers_of_words_and_pictures(client, studio, request):
    opener = studio.processor.tokenizer.boi_token_id

    def open_images(model, inputs, output):
        output.logits[..., opener] = output.logits.amax(-1) + 4

    settings = {"model": "toy", "messages": image_message(words="a"), "temperature": 1, "seed": 1, "n": 3}
    settings |= {"max_tokens": 40, "extra_body": {"modalities": ["text", "image"]}}
    handle = studio.model.register_forward_hook(open_images)
    request.addfinalizer(handle.remove)
    choices = client.chat.completions.create(**settings).choices
    parts = [[part for part in choice.message.parts if "codes" in part] for choice in choices]
    whole = [part for row in parts for part in row if len(part["codes"]) == studio.num_codes]
    assert any(choice.message.content for choice in choices) and whole and all("image_url" in part for part in whole)
    codes = [[] for _ in choices]
    for chunk in client.chat.completions.create(**settings, stream=True):
        codes[chunk.choices[0].index] += getattr(chunk.choices[0].delta, "codes", [])
    assert codes == [[code for part in row for code in part["codes"]] for row in parts]


def test_pictures_of_words(client, studio):
    made = client.images.generate(model="toy", prompt="a cat", n=2, extra_body={"seed": 5})
    codes = studio.write_codes(["a cat"])
    assert [picture.codes for picture in made.data] == codes.tolist() * 2
    for picture, drawn in zip(made.data, studio.draw(codes.repeat(2, 1), [5, 6]), strict=True):
        assert_same_picture(picture_of(picture.b64_json), drawn)


def test_pictures_are_streamed(client, studio):
    settings = {"model": "toy", "prompt": "a cat", "stream": True, "partial_images": 1}
    events = list(client.images.generate(**settings, extra_body={"temperature": 1.5, "seed": 2}))
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds.count("partial_image") == 1 and kinds[-1] == "completed"
    codes = sum((event.codes for event in events if event.type.endswith(".codes")), [])
    assert codes == events[-1].codes and len(codes) == studio.num_codes


@pytest.mark.parametrize("keep", [0, 2, 4])
def test_an_image_is_edited(client, studio, keep):
    (image,) = build_images(1)
    file = io.BytesIO()
    image.save(file, "PNG")
    extra = {"keep": keep, "seed": 0}
    made = client.images.edit(model="toy", image=("a.png", file.getvalue()), prompt="a cat", extra_body=extra)
    assert made.data[0].codes[:keep] == studio.encode([image])[0, :keep].tolist()
    if keep == 0:
        assert made.data[0].codes == studio.write_codes(["a cat"])[0].tolist()
    assert_same_picture(picture_of(made.data[0].b64_json), studio.draw(torch.tensor([made.data[0].codes]), [0])[0])


def test_codes_of_images_and_back(url, studio):
    images = build_images(2)
    answer = httpx.post(f"{url}/v1/images/codes", json={"images": [data_uri(image) for image in images]}).json()
    codes = [entry["codes"] for entry in answer["data"]]
    assert codes == studio.encode(images).tolist()
    first = [row[:3] for row in codes]
    drawn = httpx.post(f"{url}/v1/images/codes", json={"codes": first, "seed": 4}).json()["data"]
    for entry, picture in zip(drawn, studio.draw(torch.tensor(first), [4, 5]), strict=True):
        assert_same_picture(picture_of(entry["b64_json"]), picture)


def test_embeddings_of_words_and_images(client, studio):
    (image,) = build_images(1)
    inputs = ["red apple", data_uri(image), "data: the new oil"]
    expected = torch.cat([studio.text_features(inputs[::2]), studio.image_features(studio.encode([image]))])[[0, 2, 1]]
    for settings in ({}, {"encoding_format": "float"}):  # the client asks for base64 by itself
        made = client.embeddings.create(model="toy", input=inputs, **settings)
        assert_equal_up_to_rounding(torch.tensor([entry.embedding for entry in made.data]), expected)


def test_models(client, url):
    import openai  # which takes a second

    assert [model.id for model in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").id == "toy"
    with pytest.raises(openai.NotFoundError, match="`model` is 'other'; allowed: 'toy'"):
        client.models.retrieve("other")
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    # the pages of FastAPI would load scripts from other hosts
    assert httpx.get(f"{url}/docs").status_code == 404


IMAGE = "data:image/png;base64,AAAA"
CHAT, PICTURES, EMBEDDINGS, CODES = "chat/completions", "images/generations", "embeddings", "images/codes"


def chat(*parts, **settings):
    return {"messages": [{"role": "user", "content": list(parts) or "a"}], **settings}


@pytest.mark.parametrize(
    "path, body, param, words",
    [
        (CHAT, chat(tools=[]), "tools", "not supported"),
        (CHAT, chat(temperature=3), "temperature", "is 3"),
        (CHAT, chat(n=17), "n", "at most 16"),
        (CHAT, chat(n="3"), "n", "is '3'"),
        (CHAT, chat(n=True), "n", "is True"),
        (CHAT, chat(temperature="1"), "temperature", "is '1'"),
        (CHAT, {"messages": [{"role": "user", "content": " \n"}]}, "messages", "is empty"),
        (PICTURES, {"prompt": "a", "seed": True}, "seed", "is True"),
        (CHAT, chat(model="gpt"), "model", "allowed: 'toy'"),
        (CHAT, chat(max_tokens=2000), "max_tokens", "allowed: 1 to 128, all that the model"),
        (CHAT, chat(max_tokens=3, modalities=["image"]), "max_tokens", "allowed: 6 to"),
        (CHAT, chat(max_tokens=128), "messages", "allowed beside an answer of up to 128: 0"),
        (CHAT, chat({"type": "text", "text": ""}), "messages", "is empty"),
        (CHAT, {"messages": []}, "messages", "at least 1 item"),
        (CHAT, {"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "is 'tool'"),
        (CHAT, chat({"type": "text"}), "messages.0.content.0.text", "is missing"),
        (
            CHAT,
            chat({"type": "image_url", "image_url": {"url": IMAGE}}),
            "messages.0.content.0.image_url.url",
            "cannot",
        ),
        (CHAT, chat({"type": "image_url", "codes": [1]}), "messages.0.content.0.codes", "has 1 codes; allowed: 4"),
        (CHAT, chat({"type": "image_url"}), "messages.0.content.0", "neither `image_url` nor `codes`"),
        (PICTURES, {"prompt": " "}, "prompt", "allowed: some words"),
        (PICTURES, {"prompt": "a", "size": "1024x1024"}, "size", "allowed: 'auto' or"),
        (PICTURES, {"prompt": "a", "response_format": "url"}, "response_format", "b64_json"),
        (PICTURES, {"prompt": "a " * 200}, "prompt", "tokens"),
        (EMBEDDINGS, {"input": ["a", IMAGE]}, "input.1", "cannot be read"),
        (EMBEDDINGS, {"input": "a", "dimensions": 2}, "dimensions", "not supported"),
        (EMBEDDINGS, {"input": [[1, 2]]}, "input.0", "valid string"),
        (CODES, {"codes": [[0, 99]]}, "codes.0", "the code 99 at place 1"),
        (CODES, {"codes": [[0], [0, 1]]}, "codes", "different lengths"),
        (CODES, {"codes": [[True]]}, "codes.0.0", "is True"),
        (CODES, {"images": []}, "images", "at least 1 item"),
        (CODES, {"images": ["data:,hello"]}, "images.0", "base64; allowed: data:image/png;base64,..."),
        (CODES, {"images": ["data:image/png;base64, "]}, "images.0", "it holds no data; allowed: an image file."),
        (CHAT, chat(temperature=3), "temperature", "is 3; allowed: less than or equal to 2."),
        (CODES, {}, None, "`images` or `codes`"),
    ],
)
def test_wrong_input_is_named(url, path, body, param, words):
    answer = httpx.post(f"{url}/v1/{path}", json=body)
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "model" else 400) and error["type"] == "invalid_request_error"
    assert error["param"] == param and words in error["message"], error


@pytest.mark.parametrize(
    "path, body, param",
    [
        (CHAT, {"messages": [{"role": "user", "content": "b"}]}, "messages.0.content"),
        (CHAT, chat({"type": "text", "text": "b"}), "messages.0.content.0.text"),
        (CHAT, chat(stop="b"), "stop"),
        (CHAT, chat(stop=["b"]), "stop.0"),
        (PICTURES, {"prompt": "b"}, "prompt"),
        (EMBEDDINGS, {"input": ["a", "b"]}, "input.1"),
        (CODES, {"images": ["b"]}, "images.0"),
    ],
)
def test_halves_of_surrogate_pairs_are_refused(url, path, body, param):
    text = json.dumps(body).replace('"b"', '"b\\ud800"')
    answer = httpx.post(f"{url}/v1/{path}", content=text, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param
    assert "the half \\ud800 of a surrogate pair at place 1" in error["message"]
    key = httpx.post(f"{url}/v1/{path}", content='{"b\\ud800": 1}', headers={"Content-Type": "application/json"})
    assert key.status_code == 400, key.text


def test_a_failure_ends_the_connection(url, studio):
    def fail(*args):
        raise ValueError("broken")

    handle = studio.model.register_forward_pre_hook(fail)
    answer = httpx.post(f"{url}/v1/chat/completions", json=chat())
    handle.remove()
    assert answer.status_code == 500 and answer.headers["Connection"] == "close"
    assert answer.json()["error"]["code"] == "internal_error"


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png", "~/a.png", to_base64(build_images(1)[0])],
)
def test_no_path_is_read_and_no_url_fetched(url, source):
    for path, body in (
        (CODES, {"images": [source]}),
        (CHAT, chat({"type": "image_url", "image_url": {"url": source}})),
    ):
        error = httpx.post(f"{url}/v1/{path}", json=body).json()["error"]
        assert error["code"] == "invalid_image_url" and error["message"].endswith("allowed: a base64 data URI.")


def test_a_body_of_another_kind_is_refused(url):
    path, body, json_type = f"{url}/v1/embeddings", '{"input": "a"}', {"Content-Type": "application/json"}
    for headers, start in (({}, "is missing"), ({"Content-Type": "text/plain"}, "is 'text/plain'")):
        error = httpx.post(path, content=body, headers=headers).json()["error"]
        assert error["message"] == f"`Content-Type` {start}; send Content-Type: application/json."
    for wrong in (b"{", b"\xff", b"[" * 100000, b'{"input": "a"} 1'):
        answer = httpx.post(path, content=wrong, headers=json_type)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"


def test_a_bomb_is_refused_by_our_limit(url):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0))
    bomb = base64.b64encode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")).decode()
    error = httpx.post(f"{url}/v1/images/codes", json={"images": [f"data:image/png;base64,{bomb}"]}).json()["error"]
    assert error["param"] == "images.0" and f"more than the {IMAGE_LIMITS.pixels()} pixels" in error["message"]


def test_an_edit_takes_one_image(url, studio):
    (image,) = build_images(1)
    file, path, data = io.BytesIO(), f"{url}/v1/images/edits", {"prompt": "a", "keep": "4", "seed": "0", "steps": "1"}
    image.save(file, "PNG")
    upload = ("a.png", file.getvalue())
    # the field of a list has another name in OpenAI's client
    made = httpx.post(path, data=data, files=[("image[]", upload)]).json()
    assert made["data"][0]["codes"] == studio.encode([image])[0].tolist()
    for name in ("image", "image[]"):
        error = httpx.post(path, data=data, files=[("image", upload), (name, upload)]).json()["error"]
        assert error["param"] == "image" and error["message"] == "`image` is in the form 2 times; allowed: once."
    for name, value in (("keep", "x"), ("keep", "2.5"), ("n", "0"), ("temperature", "nan")):
        wrong = httpx.post(path, data={**data, name: value}, files={"image": upload}).json()["error"]
        assert wrong["param"] == name, wrong


def test_other_errors_have_the_same_shape(url):
    image = {"image": ("a.png", b"no image")}
    form = httpx.post(f"{url}/v1/images/edits", data={"prompt": "a", "mask": "b"}, files=image)
    assert form.json()["error"]["param"] == "mask"
    assert httpx.post(f"{url}/v1/images/edits", data={"prompt": "a"}, files=image).json()["error"]["param"] == "image"
    assert httpx.post(f"{url}/v1/images/edits", data={"prompt": "a"}).json()["error"]["param"] == "image"
    assert (
        httpx.post(f"{url}/v1/embeddings", content="{", headers={"Content-Type": "application/json"}).json()["error"][
            "code"
        ]
        == "invalid_json"
    )
    assert "POST /v1/nowhere" in httpx.post(f"{url}/v1/nowhere").json()["error"]["message"]
    assert httpx.get(f"{url}/v1/embeddings").status_code == 405
