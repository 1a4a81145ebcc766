"""Image-text pairs as token ids and targets, for the stage that trains the language model."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset

from ..data.augmentation import uniform
from ..data.captioned_images import draw_caption, with_tags
from ..data.codes import read_codes
from ..data.encode import encode_once
from ..data.resumable import check_positive
from ..data.rows import load_rows
from .settings import PairSettings, check_shares


def load_coded_rows(
    split: str,
    image_tokenizer: str,
    *,
    output_dir: str,
    reading: dict,
    codes: str | None = None,
    dataset: str | None = None,
    **settings,
):
    """Rows with codes, memory-mapped.

    Args:
        split (`str`): Name of the split.
        image_tokenizer (`str`): Folder of the image tokenizer that makes the codes.
        output_dir (`str`): Folder of the run; new codes are kept beside it, for every later run with these weights.
        reading (`dict`): Further arguments of [`~seed_hf.data.rows.load_rows`].
        codes (`str`, *optional*): What `seed-hf encode` wrote.
        dataset (`str`, *optional*): Data set to encode where there are no `codes`.
        settings: Further arguments of [`~seed_hf.data.encode.encode_once`].

    Returns:
        `datasets.Dataset`: The rows.

    Raises:
        ValueError: If neither `codes` nor `dataset` is given.
    """
    if codes:
        return read_codes(codes, split, image_tokenizer)
    if not dataset:
        raise ValueError("`codes` and `dataset` are None; allowed: one of them.")
    rows = load_rows(dataset, split, **reading)
    return encode_once(rows, image_tokenizer, Path(output_dir).parent / "codes", split, **settings)


class PairMaker:
    """Makes one training sequence of one row: a caption, an answer, or an image as the target.

    Image to text: `<img>` codes `</img>` prompt | caption, end. Text to image: prompt with caption | `<img>` codes
    `</img>`, end. Only what stands right of the bar is a target (paper section 3: "generation target"; SEED-LLaMA
    trains on both sides).

    The end is the tokenizer's end-of-text token, on which `generate()` stops (BLIP-2 with OPT: a newline).

    Args:
        processor ([`SeedProcessor`]): Prompts and tokenizer.
        make_questions (`Callable`): From a row and a `random.Random` to (question, answer) pairs.
        settings ([`~seed_hf.trainer.settings.PairSettings`]): Tasks and their shares.
        rows (`datasets.Dataset`, *optional*): Where `mix_images` finds images with the same caption.
    """

    def __init__(self, processor, make_questions: Callable, settings: PairSettings, rows: Dataset | None = None):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.make_questions = make_questions
        self.settings = settings
        check_shares(settings, "image_ratio", "question_ratio", "unconditional_ratio", "tag_ratio")
        check_shares(settings, "mix_images", "code_noise")
        check_positive(max_text_tokens=settings.max_text_tokens)
        self.rows, self.numbers_of = rows, defaultdict(list)
        if settings.mix_images:
            for number, caption in enumerate(rows["caption"]):
                self.numbers_of[caption].append(number)

    def __call__(self, row: dict, generator: torch.Generator) -> dict:
        """Draws a view of the image, one of its captions, and a task."""
        settings = self.settings
        views = _views(row)
        view = int(torch.randint(len(views), (1,), generator=generator))
        others = self.numbers_of.get(row["caption"])
        row = {**row, "caption": draw_caption(row, generator)}
        kind = "caption"
        if settings.task == "both" and uniform(0, 1, generator) < settings.image_ratio:
            kind = "image"
        elif uniform(0, 1, generator) < settings.question_ratio:
            kind = "question"
        codes = views[view]
        if kind != "image":
            codes = self._mixed(views, generator) if settings.mix_views else codes
            if others and uniform(0, 1, generator) < settings.mix_images:
                other = self.rows[others[int(torch.randint(len(others), (1,), generator=generator))]]
                codes = self._mixed([codes, self._mixed(_views(other), generator)], generator)
            codes = self._with_noise(codes, generator)
        return self.make(row, codes, kind, generator)

    @staticmethod
    def _mixed(views: list[list[int]], generator: torch.Generator) -> list[int]:
        """Each code from any of the views: which codes change with the view says nothing about an image."""
        views = torch.as_tensor(views)
        return views.gather(0, torch.randint(len(views), views.shape[1:], generator=generator)[None])[0].tolist()

    def _with_noise(self, codes: list[int], generator: torch.Generator) -> list[int]:
        """Some codes replaced by any others, so that a few images are not learned by heart from single codes."""
        if not self.settings.code_noise:
            return codes
        codes = torch.as_tensor(codes)
        replaced = torch.rand(codes.shape, generator=generator) < self.settings.code_noise
        others = torch.randint(self.tokenizer.codebook_size, codes.shape, generator=generator)
        return torch.where(replaced, others, codes).tolist()

    def make(self, row: dict, codes: list[int], kind: str, generator: torch.Generator | None = None) -> dict:
        """Makes one sequence.

        Args:
            row (`dict`): `caption`, and what questions and tags are made of.
            codes (`list[int]`): Codes of the image.
            kind (`str`): `"caption"`, `"question"` or `"image"`.
            generator (`torch.Generator`, *optional*): Draws questions, tags and dropped captions; none without it.

        Returns:
            `dict`: `input_ids` and `labels` (`list[int]`) and `is_image_task` (`bool`).
        """
        span, as_text = self.tokenizer.codes_to_text(codes), self.tokenizer.escape_control_tokens
        if kind == "image":
            caption = row["caption"]
            if generator is not None:
                caption = with_tags(caption, row.get("tags") or [], self.settings.tag_ratio, generator)
                if uniform(0, 1, generator) < self.settings.unconditional_ratio:
                    caption = ""
            caption = self._cut(caption)
            return self._join(
                self.processor.image_prompt.format(caption=as_text(caption)).strip(), span, is_image_task=True
            )
        prompt, target = self.processor.caption_prompt, row["caption"]
        if kind == "question":
            draw = random.Random(generator.initial_seed() if generator is not None else 0)
            question, target = draw.choice(self.make_questions(row, draw))
            prompt = self.processor.question_prompt.format(question=as_text(self._cut(question)))
        return self._join(prompt.replace(self.processor.image_token, span), " " + as_text(target), is_image_task=False)

    def _cut(self, text: str) -> str:
        """The first `max_text_tokens` tokens of a text: one of thousands would be too long for a language model."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        limit = self.settings.max_text_tokens
        return text[: offsets[limit - 1][1]] if len(offsets) > limit else text

    def _join(self, prompt: str, target: str, is_image_task: bool) -> dict:
        tokenizer = self.tokenizer
        # both ways of tokenizing agree on the prompt where the target starts with a space or a special token
        prompt_ids = tokenizer(prompt)["input_ids"]
        ids = tokenizer(prompt + target)["input_ids"]
        if ids[: len(prompt_ids)] != prompt_ids:
            ids = prompt_ids + tokenizer(target, add_special_tokens=False)["input_ids"]
        if not is_image_task:
            ids = ids[: len(prompt_ids) + self.settings.max_text_tokens]
        ids = [*ids, tokenizer.eos_token_id]
        labels = [-100] * len(prompt_ids) + ids[len(prompt_ids) :]
        return {"input_ids": ids, "labels": labels, "is_image_task": is_image_task}


def _views(row: dict) -> list[list[int]]:
    return [row["codes"], *(row.get("augmented_codes") or [])]


def list_texts(rows: list[dict]) -> list[str]:
    """Captions and tags of rows, with the words of the prompts, for training a small tokenizer."""
    texts = ["A photo of", "Generate an image:", "Question: What is this? Short answer:", " yes", " no"] * len(rows)
    questions = ["Question: What kind of thing is this? Short answer:", "Question: Is this an a? Short answer:"]
    texts += questions * len(rows)
    for row in rows:
        texts += [" " + row["caption"], *(" " + tag for tag in row.get("tags") or [])]
    return texts


def words(text: str) -> list[str]:
    """Lower-case words of a caption."""
    return re.findall(r"\w+", text.lower())


def word_f1(caption: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words, in [0, 1]."""
    written, expected = Counter(words(caption)), Counter(words(reference))
    common = sum((written & expected).values())
    return 2 * common / max(1, sum(written.values()) + sum(expected.values()))


def describe_captions(captions: list[str], rows: list[dict], count: int) -> str:
    """A few lines "reference -> caption" for the log."""
    pairs = list(zip(captions, rows, strict=True))[:: max(1, len(rows) // count)][:count]
    return "\n".join(f"  {row['caption']!r} -> {caption!r}" for caption, row in pairs)
