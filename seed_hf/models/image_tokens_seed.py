# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Code <-> image token arithmetic and the image-span layout, in one place.

A **code** is a codebook index in `[0, codebook_size)`; an **image token** is its id in the text vocabulary. An image
span is `<img>` + exactly `num_query_tokens` image tokens + `</img>`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


BOI_TOKEN = "<img>"
EOI_TOKEN = "</img>"
IMAGE_PLACEHOLDER_TOKEN = "<image>"


def image_token(code: int) -> str:
    """The text of one image token, `<img_00042>` for code 42 (the spelling of SEED-LLaMA's tokenizer)."""
    return f"<img_{code:05d}>"


@dataclass(frozen=True)
class ImageCodes:
    """
    Codes that stand in the place of images, where a function of transformers hands images on.

    Args:
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes in `[0, codebook_size)`, all or the first
            ones of each image.
    """

    codes: torch.LongTensor


@dataclass(frozen=True)
class ImageTokenLayout:
    """
    Where the image tokens are in a text vocabulary.

    Args:
        first_image_token_id (`int`): Id of the image token of code 0; code `k` has id `first_image_token_id + k`.
        codebook_size (`int`): Number of codes.
        num_query_tokens (`int`): Number of codes of an image.
        boi_token_id (`int`): Id of `<img>`, which opens a span.
        eoi_token_id (`int`): Id of `</img>`, which closes it.
        image_placeholder_token_id (`int`): Id of `<image>`: stands for one code that is not computed yet.
        codebook_per_query (`bool`, defaults to `False`): Whether the codes fall into equal parts, one for each place.
    """

    first_image_token_id: int
    codebook_size: int
    num_query_tokens: int
    boi_token_id: int
    eoi_token_id: int
    image_placeholder_token_id: int
    codebook_per_query: bool = False

    @property
    def end_image_token_id(self) -> int:
        """One past the id of the last image token."""
        return self.first_image_token_id + self.codebook_size

    @property
    def special_token_ids(self) -> tuple[int, int, int]:
        """Ids of `<img>`, `</img>` and `<image>`."""
        return self.boi_token_id, self.eoi_token_id, self.image_placeholder_token_id

    @property
    def end_token_id(self) -> int:
        """One beyond the last id that images need."""
        return max(self.end_image_token_id, *(token_id + 1 for token_id in self.special_token_ids))

    def is_image_token(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Boolean tensor of the shape of `token_ids`: true where the id is an image token."""
        return (token_ids >= self.first_image_token_id) & (token_ids < self.end_image_token_id)

    def is_image_token_at(self, token_ids: torch.Tensor) -> torch.Tensor:
        """For each place in a span, whether the id may stand there: bool `(num_query_tokens, *token_ids.shape)`."""
        is_image = self.is_image_token(token_ids).expand(self.num_query_tokens, *token_ids.shape)
        if not self.codebook_per_query:
            return is_image
        part = (token_ids - self.first_image_token_id) // (self.codebook_size // self.num_query_tokens)
        places = torch.arange(self.num_query_tokens, device=token_ids.device).view(-1, *[1] * token_ids.ndim)
        return is_image & (part == places)

    def codes_to_token_ids(self, codes: torch.Tensor) -> torch.Tensor:
        """
        Turns codes into ids in the text vocabulary.

        Args:
            codes (`torch.LongTensor` of any shape, or what `check_codes` takes): Codes in `[0, codebook_size)`.

        Returns:
            `torch.LongTensor` of the same shape: image tokens.

        Raises:
            ValueError: `codes` are no integers or out of range.
        """
        return self.check_codes(codes) + self.first_image_token_id

    def token_ids_to_codes(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        Turns image tokens into codes; the inverse of `codes_to_token_ids`.

        Args:
            token_ids (`torch.LongTensor` of any shape): Image tokens.

        Returns:
            `torch.LongTensor` of the same shape: codes in `[0, codebook_size)`.

        Raises:
            ValueError: An id is not an image token.
        """
        token_ids = as_integer_tensor(token_ids, "token_ids")
        bad = token_ids[~self.is_image_token(token_ids)]
        if bad.numel() > 0:
            raise ValueError(
                f"`token_ids` holds {bad.flatten()[0].item()}, which is not an image token; allowed: "
                f"[{self.first_image_token_id}, {self.end_image_token_id})."
            )
        return token_ids - self.first_image_token_id

    def check_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """`codes` of any shape as a `torch.LongTensor`; see the function `check_codes` of this module."""
        return check_codes(codes, self.codebook_size)

    def check_image_codes(self, codes: torch.Tensor, allow_prefix: bool = False) -> torch.Tensor:
        """
        Like `check_codes`; a vector counts as one whole image. The result has shape `(num_images, codes per image)`.
        With `allow_prefix`, rows may hold the first codes of images alone.
        """
        codes = as_integer_tensor(codes, "codes")
        is_matrix = allow_prefix and codes.ndim == 2  # a short vector is rather a mistake
        settings = {"allow_vector": False, "allow_prefix": True} if is_matrix else {}
        return check_codes(codes, self.codebook_size, self.num_query_tokens, **settings)

    def span(self, codes: torch.Tensor) -> list[int]:
        """Token ids of one whole image span: `<img>`, the image tokens of `codes`, `</img>`."""
        codes = self.check_image_codes(codes)
        return [self.boi_token_id, *(codes[0] + self.first_image_token_id).tolist(), self.eoi_token_id]

    def insert_codes(self, input_ids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """
        Replaces placeholders by image tokens, in reading order; the length stays the same.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids with placeholders.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): One row for each image of the batch.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length)`.

        Raises:
            ValueError: The number of placeholders is not `num_images * num_query_tokens`.
        """
        codes = self.check_image_codes(codes)
        is_placeholder = input_ids == self.image_placeholder_token_id
        num_placeholders = int(is_placeholder.sum())
        if num_placeholders != codes.numel():
            raise ValueError(
                f"`input_ids` holds {num_placeholders} `{IMAGE_PLACEHOLDER_TOKEN}` placeholders but {codes.shape[0]} "
                f"images were given; allowed: {self.num_query_tokens} placeholders for each image."
            )
        tokens = (codes + self.first_image_token_id).to(input_ids.device).flatten()
        return input_ids.masked_scatter(is_placeholder, tokens.to(input_ids.dtype))

    def replace_placeholder_targets(
        self, labels: torch.Tensor | None, target_ids: torch.Tensor | None
    ) -> torch.Tensor | None:
        """
        Removes `<image>` from training targets, since no model should learn to write it.

        Args:
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Targets.
            target_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): The ids that stand at the
                places of the first `length` targets, with image tokens in place of placeholders.

        Returns:
            `torch.LongTensor` of the shape of `labels`: where `<image>` was, the image token, or -100 (no target)
            where there is none; `None` without `labels`.
        """
        if labels is None:
            return None
        targets = torch.full_like(labels, -100)
        if target_ids is not None:
            is_image = self.is_image_token(target_ids)
            targets[:, : target_ids.shape[1]] = torch.where(is_image, target_ids, -100).to(targets)
        return torch.where(labels == self.image_placeholder_token_id, targets, labels)

    def span_state(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Says whether each sequence ends inside an image span, and how far inside.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids, left padding allowed.

        Returns:
            `torch.BoolTensor` of shape `(batch_size,)`: the last `<img>` is not closed; `torch.LongTensor` of shape
            `(batch_size,)`: tokens after the last `<img>` (meaningful where the first is true).
        """
        if input_ids.shape[-1] == 0:
            shape = input_ids.shape[:1]
            return input_ids.new_zeros(shape, dtype=torch.bool), input_ids.new_zeros(shape)
        positions = torch.arange(input_ids.shape[-1], device=input_ids.device)
        last_boi = torch.where(input_ids == self.boi_token_id, positions, -1).amax(dim=-1)
        last_eoi = torch.where(input_ids == self.eoi_token_id, positions, -1).amax(dim=-1)
        return last_boi > last_eoi, input_ids.shape[-1] - 1 - last_boi

    def split(self, token_ids: list[int]) -> list[tuple[str, list[int]]]:
        """
        Splits one sequence into text and images, in order.

        Args:
            token_ids (`list[int]`): Ids of one sequence.

        Returns:
            `list[tuple[str, list[int]]]`: `("text", token ids)` and `("image", codes)` pieces. A span that is cut
            short at the start or the end of the sequence, or malformed, gives an image with fewer codes.
        """
        pieces: list[tuple[str, list[int]]] = []
        in_span = False
        for token_id in token_ids:
            if token_id == self.boi_token_id:
                pieces.append(("image", []))
                in_span = True
            elif token_id == self.eoi_token_id:
                in_span = False
            elif self.first_image_token_id <= token_id < self.end_image_token_id:
                if not in_span:
                    pieces.append(("image", []))
                    in_span = True
                pieces[-1][1].append(token_id - self.first_image_token_id)
            else:
                if in_span or not pieces or pieces[-1][0] != "text":
                    pieces.append(("text", []))
                    in_span = False
                pieces[-1][1].append(token_id)
        return pieces


def check_one_given(**inputs: Any) -> None:
    """Raises `ValueError` unless exactly one of the named values is not None."""
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"Inputs given: {given or None}; allowed: exactly one of {list(inputs)}.")


def check_codes(
    codes,
    codebook_size: int,
    num_query_tokens: int | None = None,
    name: str = "codes",
    allow_vector: bool = True,
    allow_prefix: bool = False,
) -> torch.LongTensor:
    r"""
    Checks codes; every function that takes codes calls it first.

    Args:
        codes (`torch.Tensor` or `np.ndarray` of any integer dtype, or nested lists of `int` or of such arrays): Codes.
        codebook_size (`int`): Number of codes.
        num_query_tokens (`int`, *optional*): Number of codes of an image. With it, the shape has to be
            `(batch_size, num_query_tokens)` or `(num_query_tokens,)`, without it any shape will do.
        name (`str`, defaults to `"codes"`): Name of the codes in errors.
        allow_vector (`bool`, defaults to `True`): Whether the codes of one image may come as a vector.
        allow_prefix (`bool`, defaults to `False`): Whether the first codes of each image are enough.

    Returns:
        `torch.LongTensor` of the same shape, with `num_query_tokens` always `(batch_size, num_query_tokens)`.

    Raises:
        ValueError: Codes that are no integers, of another shape, or out of range.
    """
    codes = as_integer_tensor(codes, name)
    if num_query_tokens is not None:
        shape = tuple(codes.shape)
        codes = codes[None] if codes.ndim == 1 and allow_vector else codes
        counts = range(1, num_query_tokens + 1) if allow_prefix else (num_query_tokens,)
        if codes.ndim != 2 or codes.shape[1] not in counts:
            count = f"1 to {num_query_tokens}" if allow_prefix else num_query_tokens
            allowed = f"(batch_size, {count})" + (f" or ({count},)" if allow_vector else "")
            raise ValueError(f"`{name}` has shape {shape}; allowed: {allowed}.")
    if torch.compiler.is_compiling():
        return codes  # a compiled graph cannot branch on values
    is_bad = (codes < 0) | (codes >= codebook_size)
    if is_bad.any():
        raise ValueError(f"`{name}` holds {codes[is_bad][0].item()}; allowed: [0, {codebook_size}).")
    return codes


def as_integer_tensor(values, name: str) -> torch.LongTensor:
    """`values` as a `torch.LongTensor`; raises `ValueError` naming `name` where they are not integers."""
    try:
        tensor = values if isinstance(values, torch.Tensor) else _copy_to_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"`{name}` is not a rectangular array of integers: {error}.") from error
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        if tensor.numel() > 0:
            raise ValueError(f"`{name}` has dtype {tensor.dtype}; allowed: an integer dtype.")
    return tensor.long()


def _copy_to_tensor(values) -> torch.Tensor:
    """Arrays of any byte order, read-only ones, columns of arrays and lists of arrays or tensors as a tensor."""
    if not isinstance(values, np.ndarray) or values.dtype.hasobject:
        values = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    array = np.array(values)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
