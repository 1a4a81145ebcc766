"""Rewards for images that a language model writes, computed from their codes: no picture has to be drawn."""

from collections.abc import Callable

import torch
from transformers import PreTrainedTokenizerBase

from .inference import text_features
from .models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .models.tokenization_seed import SeedTokenizer


class CodeTextSimilarity:
    r"""
    How well the codes of a written image fit the words of its prompt; a reward function of TRL's `GRPOTrainer`.

    The reward is the dot product of two features of unit length, that of the codes and that of the words, which the
    image tokenizer was trained to bring together (paper section 3.1).

    Args:
        image_tokenizer ([`SeedImageTokenizer`]): Made the codes that the language model writes; with a text tower.
        caption_tokenizer (`PreTrainedTokenizerBase`): That of its text tower, beside it in its folder.
        tokenizer ([`SeedTokenizer`]): That of the language model.
        caption_of (`Callable`, *optional*): Prompt to words, where the prompt holds more than these.

    Raises:
        ValueError: The image tokenizer has no text tower.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> from seed_hf import SeedImageTokenizer, SeedTokenizer
    >>> from seed_hf.mini import mini_image, mini_language_model_path, mini_pipeline_path
    >>> from seed_hf.rewards import CodeTextSimilarity

    >>> folder = mini_pipeline_path() + "/image_tokenizer"
    >>> tokenizer = SeedTokenizer.from_pretrained(mini_language_model_path(), image_tokenizer_id=mini_pipeline_path())
    >>> image_tokenizer = SeedImageTokenizer.from_pretrained(folder)
    >>> reward = CodeTextSimilarity(image_tokenizer, AutoTokenizer.from_pretrained(folder), tokenizer)
    >>> strawberry = tokenizer(tokenizer.codes_to_text(tokenizer.encode_image(mini_image("strawberry")))).input_ids
    >>> right, wrong = reward(["strawberry", "guitar"], completion_ids=[strawberry, strawberry])
    >>> right > wrong
    True

    ```
    """

    __name__ = "code_text_similarity"  # the column of TRL's log

    def __init__(
        self,
        image_tokenizer: SeedImageTokenizer,
        caption_tokenizer: PreTrainedTokenizerBase,
        tokenizer: SeedTokenizer,
        caption_of: Callable[[str], str] = str,
    ):
        if not image_tokenizer.config.use_text_tower:
            raise ValueError("`image_tokenizer` has use_text_tower=False; allowed: True, for features of words.")
        self.image_tokenizer, self.caption_tokenizer = image_tokenizer, caption_tokenizer
        self.layout, self.caption_of = tokenizer.image_token_layout, caption_of

    @torch.no_grad()
    def __call__(self, prompts: list[str], completion_ids: list[list[int]], **columns) -> list[float]:
        """
        Rewards of completions.

        Args:
            prompts (`list[str]`): What was asked for.
            completion_ids (`list[list[int]]`): What was written, as ids; the last whole image of each counts.
            columns: What else TRL hands over; not used.

        Returns:
            `list[float]`: In [-1, 1]; -1 without a whole image.
        """
        images = [self._last_image(ids) for ids in completion_ids]
        written = [number for number, codes in enumerate(images) if codes is not None]
        rewards = torch.full((len(images),), -1.0)
        if written:
            codes = torch.tensor([images[number] for number in written], device=self.image_tokenizer.device)
            words = [self.caption_of(prompts[number]) for number in written]
            words = text_features(self.image_tokenizer, self.caption_tokenizer, words)
            features = self.image_tokenizer.get_image_features(codes=codes).pooler_output
            rewards[written] = (features * words).sum(-1).float().cpu()
        return rewards.tolist()

    def _last_image(self, ids: list[int]) -> list[int] | None:
        whole = [codes for kind, codes in self.layout.split(ids) if kind == "image"]
        whole = [codes for codes in whole if len(codes) == self.layout.num_query_tokens]
        return whole[-1] if whole else None


__all__ = ["CodeTextSimilarity"]
