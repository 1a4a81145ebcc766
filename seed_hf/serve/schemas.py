"""Requests in the shapes of OpenAI's API. Fields that are not here are refused by name."""

from typing import Annotated, Any, Literal, TypeVar

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _is_unicode(text: str) -> str:
    """JSON can hold halves of surrogate pairs, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])[1:-1]
        raise ValueError(
            f"it has the half {half} of a surrogate pair at place {error.start}; allowed: Unicode"
        ) from None
    return text


def _has_words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty; allowed: some words")
    return text


Text = Annotated[str, AfterValidator(_is_unicode)]
Words = Annotated[Text, AfterValidator(_has_words)]
Code = Annotated[int, Field(strict=True, ge=0)]
Temperature = Annotated[float, Field(strict=True, ge=0, le=2)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Seed = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(strict=True, ge=1)]
Steps = Annotated[int, Field(strict=True, ge=1, le=250)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=100)]
Previews = Annotated[int, Field(strict=True, ge=0, le=3)]
Kept = Annotated[int, Field(strict=True, ge=0)]

# an answer names one error, and those of all elements would take gigabytes
Element = TypeVar("Element")
Several = Annotated[list[Element], Field(fail_fast=True)]

_FORM_NUMBERS = ("n", "seed", "steps", "guidance", "temperature", "top_p", "partial_images", "keep")


def _number(value: Any) -> Any:
    """The number that a field of a form holds, or what else it holds."""
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            continue
    return value


class Strict(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown(cls, values: Any) -> Any:
        """Of many unknown fields one is refused, and not each."""
        known = cls.model_fields
        first = next((name for name in values if name not in known), None) if isinstance(values, dict) else None
        if first is None:
            return values
        return {name: value for name, value in values.items() if name in known or name == first}


class ApiRequest(Strict):
    """
    What all requests may have.

    Args:
        model (`str`, *optional*): Name of the model, which is the only one.
        user (`str`, *optional*): Accepted, and not used.
    """

    model: Text | None = None
    user: Text | None = None


class Drawing(BaseModel):
    """
    Settings of pictures, beside OpenAI's.

    Args:
        seed (`int`, *optional*): Seed of the first picture and of sampling; by default a random one.
        steps (`int`, *optional*): Number of denoising steps; by default the model's.
        guidance (`float`, *optional*): Strength of guidance; by default the model's.
    """

    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None


class ImageUrl(Strict):
    """Where an image is; `detail` is accepted, and not used."""

    url: Text
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(Strict):
    """Words of a message."""

    type: Literal["text"]
    text: Text


class ImagePart(Strict):
    """An image of a message. Where `codes` are given, they count, and the image is not read."""

    type: Literal["image_url"]
    image_url: ImageUrl | None = None
    codes: Several[Code] | None = None

    @model_validator(mode="after")
    def _has_one(self):
        if self.image_url is None and self.codes is None:
            raise ValueError("it has neither `image_url` nor `codes`; allowed: one of them")
        return self


class Message(Strict):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Several[Annotated[TextPart | ImagePart, Field(discriminator="type")]]

    @model_validator(mode="before")
    @classmethod
    def _take_own_answer(cls, values: Any) -> Any:
        """What the server answered comes back as it was: `parts` is all of it in order; unfinished images go."""
        if not isinstance(values, dict) or values.get("role") != "assistant":
            return values
        message = {name: value for name, value in values.items() if name not in ("refusal", "images", "parts")}
        if isinstance(parts := values.get("parts"), list):
            message["content"] = [
                part for part in parts if not isinstance(part, dict) or part.keys() != {"type", "codes"}
            ]
        return message if message.get("content") is not None else {**message, "content": ""}


class StreamOptions(Strict):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(ApiRequest, Drawing):
    """
    A request of `/v1/chat/completions`.

    Args:
        messages (`list[Message]`): The chat.
        modalities (`list[str]`, *optional*): OpenAI's name for the kinds of answer: `["text"]`, `["image"]` or both.
        generation_mode (`str`, *optional*): The same as `"text"`, `"image"` or `"interleaved"`; by default text.
        stream (`bool`, defaults to `False`): Whether to answer in server-sent events.
        stream_options (`StreamOptions`, *optional*): Options of the stream.
        partial_images (`int`, defaults to 0): Number of previews of each picture in a stream.
        max_tokens, max_completion_tokens (`int`, *optional*): Largest number of tokens of an answer.
        temperature (`float`, *optional*): By default 0, for the likeliest words and codes.
        top_p (`float`, *optional*): Share of the probability that may be drawn; by default all.
        n (`int`, defaults to 1): Number of answers.
        stop (`str` or `list[str]`, *optional*): Words at which an answer ends.
        raw (`bool`, defaults to `False`): Whether a model without a chat template of its own gets the whole chat, and
            not the newest message as the prompt that it was trained on.
    """

    messages: Several[Message] = Field(min_length=1)
    modalities: Several[Literal["text", "image"]] | None = Field(None, min_length=1)
    generation_mode: Literal["text", "image", "interleaved"] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    partial_images: Previews = 0
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Count = 1
    raw: bool = False
    stop: Annotated[Text, Field(min_length=1)] | Annotated[Several[Words], Field(max_length=4)] | None = None

    @property
    def mode(self) -> str:
        """`"text"`, `"image"` or `"interleaved"`."""
        kinds = set(self.modalities or ["text"])
        named = "interleaved" if len(kinds) == 2 else kinds.pop()
        return self.generation_mode or named

    @property
    def stops(self) -> tuple[str, ...]:
        """Words at which an answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ImageRequest(ApiRequest, Drawing):
    """
    A request of `/v1/images/generations`.

    Args:
        prompt (`str`): What the pictures should show.
        n (`int`, defaults to 1): Number of pictures.
        temperature (`float`, *optional*): Above 0, codes are sampled for each picture; by default the model's.
        top_p (`float`, *optional*): Share of the probability that may be drawn.
        size (`str`, *optional*): `"auto"`, or the size that the model draws.
        response_format (`str`, defaults to `"b64_json"`): The only one.
        output_format (`str`, defaults to `"png"`): The only one.
        stream (`bool`, defaults to `False`): Whether to answer in server-sent events.
        partial_images (`int`, defaults to 0): Number of previews of each picture in a stream.
    """

    prompt: Words
    n: Count = 1
    temperature: Temperature | None = None
    top_p: Share | None = None
    size: Text | None = None
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png"] = "png"
    stream: bool = False
    partial_images: Previews = 0


class EditRequest(ImageRequest):
    """
    A form of `/v1/images/edits`: the first codes of an image stay, and the model continues them with the words.

    Args:
        image (`UploadFile`): File of the image.
        keep (`int`, *optional*): Number of codes that stay, from the left; by default half of them. The more, the
            nearer to the image; all of them draw the image again.
    """

    image: UploadFile
    keep: Kept | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_form(cls, values: Any) -> Any:
        """Forms hold text only; and some clients, OpenAI's among them, call the fields of a list `image[]`."""
        if not isinstance(values, dict):
            return values
        values = {name: _number(value) if name in _FORM_NUMBERS else value for name, value in values.items()}
        if "image[]" in values and "image" not in values:
            values["image"] = values.pop("image[]")
        return values


class CodesRequest(ApiRequest, Drawing):
    """
    A request of `/v1/images/codes`, with one of the two.

    Args:
        images (`list[str]`, *optional*): Data URIs of images that become codes.
        codes (`list[list[int]]`, *optional*): Codes that become pictures, of each image all or the first ones.
    """

    images: Several[Text] | None = Field(None, min_length=1)
    codes: Several[Several[Code]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _has_one(self):
        if (self.images is None) == (self.codes is None):
            raise ValueError("it needs `images` or `codes`, and not both")
        return self


class EmbeddingRequest(ApiRequest):
    """
    A request of `/v1/embeddings`.

    Args:
        input (`str` or `list[str]`): Words, or data URIs of images.
        encoding_format (`str`, defaults to `"float"`): `"float"`, or `"base64"` of little-endian float32.
    """

    input: Words | Annotated[Several[Words], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"


__all__ = ["ApiRequest", "ChatRequest", "CodesRequest", "EditRequest", "EmbeddingRequest", "ImageRequest"]
