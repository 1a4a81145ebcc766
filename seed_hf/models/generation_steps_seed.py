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
"""What each step of generation needs of the model, where the image-span grammar leaves little to choose."""

import torch

from .image_tokens_seed import ImageTokenLayout


# The next id of every row is `<img>`, before the first place of a span
_OPENS = -1


class SeedImageSteps:
    r"""
    Says at each step of one `generate()` which logits the next ids are chosen from.

    Inside a span only codes may follow, and no other logits are computed. Where nothing but `<img>` or `</img>` may
    follow, the model is not asked at all: what it has not seen waits, and is given to it with the ids of the next
    step. The sampling loop stays transformers' own, with as many steps and the same random numbers.

    Rows count as one: unless all of them are at the same place, text is computed in full, and in `"image"` mode every
    step is computed. The place is read from the ids before the first step and at each `<img>`, and counted on from
    there.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        generation_mode (`str`): `"image"` or `"interleaved"`.
        num_codes (`int`): Number of codes after which a span ends.
    """

    def __init__(self, layout: ImageTokenLayout, generation_mode: str, num_codes: int):
        self.layout, self.generation_mode, self.num_codes = layout, generation_mode, num_codes
        # number of codes after the open `<img>` of every row, and number of ids that wait; None: all ids
        self._place, self._num_waiting, self._is_first = None, 0, True

    def next(self, input_ids: torch.LongTensor, num_new: int | None) -> tuple[str, int | None]:
        """
        Looks at the next step; has to be called once for each.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids so far.
            num_new (`int`, *optional*): Number of the last ids that the model has not seen; `None` for all.

        Returns:
            `needed_logits` of [`SeedForCausalLM`], and `num_new` with the ids that waited.
        """
        num_new = None if num_new is None or self._num_waiting is None else num_new + self._num_waiting
        self._place = self._next_place(input_ids)
        if self._place in (_OPENS, self.num_codes):
            self._num_waiting = num_new
            return "none", num_new
        self._num_waiting = 0
        is_code = self._place is not None or self.generation_mode == "image"
        return "codes" if is_code else "all", num_new

    def _next_place(self, input_ids: torch.LongTensor) -> int | None:
        if self._is_first:
            self._is_first = False
            return self._place_of(input_ids)
        if self._place is None:
            return 0 if bool((input_ids[:, -1] == self.layout.boi_token_id).all()) else None
        return self._place + 1 if self._place < self.num_codes else None

    def _place_of(self, input_ids: torch.LongTensor) -> int | None:
        is_open, num_tokens = self.layout.span_state(input_ids)
        places = torch.where(is_open, num_tokens.clamp(max=self.num_codes), _OPENS).unique().tolist()
        may_be_text = self.generation_mode == "interleaved" and places == [_OPENS]
        return places[0] if len(places) == 1 and not may_be_text else None


__all__ = ["SeedImageSteps"]
