"""seed-mini on real images: codes, captions, answers, reconstructions and drawings, side by side.

    python -m seed_hf.demo --image cat.jpg --prompt "a red apple"

Writes `demo_output/sheet.png` and `demo_output/index.html`. Needs no network and no accelerator.
"""

import argparse
import json
import os
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
import typer
from diffusers.utils import logging as diffusers_logging
from transformers import AutoTokenizer
from transformers.utils import logging

from ..hub.fetch import resolve_mini
from ..inference import generate_texts, text_features
from ..mini import mini_image_generation, mini_language_model
from ..models.image_processing_seed import load_rgb_image
from ..models.pipeline_seed import SeedPipeline
from .flags import demo_flags
from .page import write_page
from .results import DemoResults, DrawnPicture, SeenPicture, color_codes
from .sheet import draw_sheet


PROMPTS = [
    "red apple",
    "blue heart",
    "yellow star",
    "cat face",
    "pizza",
    "sunflower",
    "green car",
    "sad face",
]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the demo."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help="seed-mini on real images: codes, captions, answers and drawings, side by side.")(demo_flags)
    # the spelling of earlier versions has underscores
    words = sys.argv[1:] if argv is None else argv
    words = [re.sub(r"^--\w+", lambda flag: flag[0].replace("_", "-"), word) for word in words]
    command = typer.main.get_command(app)
    try:
        flags = command.main(words, prog_name="python -m seed_hf.demo", standalone_mode=False)
    except typer.BadParameter.__base__ as error:  # what the parser raises has no public name
        error.show()
        raise SystemExit(2) from None
    if not isinstance(flags, argparse.Namespace):
        raise SystemExit(0)  # `--help`
    return flags


def main(argv: list[str] | None = None, load_language_model=mini_language_model) -> int:
    """
    Runs the demo.

    Args:
        argv (`list[str]`, *optional*): Flags; by default those of the command line.
        load_language_model (`Callable`, defaults to [`mini_language_model`]): From the two folders to model and
            processor.

    Returns:
        `int`: 0.
    """
    run_demo(parse_args(argv), load_language_model)
    return 0


def run_demo(args: argparse.Namespace, load_language_model=mini_language_model):
    """
    Runs the demo with parsed flags.

    Args:
        args (`argparse.Namespace`): Has what [`~seed_hf.demo.flags.demo_flags`] gives.
        load_language_model (`Callable`, defaults to [`mini_language_model`]): See [`main`].
    """
    for part in ("pipeline", "language_model", "pictures"):
        setattr(args, part, resolve_mini(getattr(args, part), part))
    args.output_dir.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is said before the work
    # weights load in a second; their bars would only hide the demo's own lines
    logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    Demo(args, load_language_model).run()


class Demo:
    """
    The steps of the demo; each prints what it found and how long it took.

    Args:
        args (`argparse.Namespace`): See [`run_demo`].
        load_language_model (`Callable`): See [`main`].
    """

    def __init__(self, args: argparse.Namespace, load_language_model):
        self.args = args
        self.started = time.perf_counter()
        self.language_model = self.processor = None
        self.pipeline = SeedPipeline.from_pretrained(args.pipeline)
        self.pipeline.set_progress_bar_config(leave=False, disable=not sys.stderr.isatty(), desc="  drawing")
        # the weights are stored in half precision, in which a processor is slow
        self.image_tokenizer = self.pipeline.image_tokenizer.eval().float()
        codebook_size = self.image_tokenizer.config.codebook_size
        vectors = self.image_tokenizer.get_code_vectors(torch.arange(codebook_size))
        self.results = DemoResults(args.question, color_codes(vectors))
        self.captions, self.caption_features = [], None
        self.load_language_model = load_language_model

    def run(self):
        """All steps, then the sheet and the page."""
        config = self.image_tokenizer.config
        print(
            f"seed-mini: an image is {config.num_query_tokens} codes out of {config.codebook_size}. It knows small "
            "drawings like emoji; expect little of photographs.\n"
        )
        with self.step("Load the language model"):
            self.start_language_model()
        with self.step("Read images"):
            self.read_pictures()
        if self.results.seen:
            self.look()
        prompts = [prompt.strip() for prompt in self.args.prompt if prompt.strip()]
        for prompt in self.args.prompt:
            if not prompt.strip():
                self.skip(f"`--prompt` {prompt!r} is empty; allowed: some words.")
        if self.language_model is not None:
            # the caller's own, filled up to one row of the sheet
            others = [prompt for prompt in PROMPTS if prompt not in prompts]
            self.draw((prompts + others)[: max(len(PROMPTS), len(prompts))])
        with self.step("Write the sheet and the page"):
            folder = self.args.output_dir
            draw_sheet(self.results).save(folder / "sheet.png", optimize=True)
            write_page(self.results, folder / "index.html")
        print(f"Done in {time.perf_counter() - self.started:.0f} s: {folder / 'sheet.png'}, {folder / 'index.html'}")

    # ------------------------------------------------------------------------------------------ steps

    def start_language_model(self):
        """Loads the language model; without it the demo goes on with what the image tokenizer can do."""
        try:
            self.language_model, self.processor = self.load_language_model(
                self.args.language_model, self.args.pipeline
            )
        except (ImportError, OSError, ValueError) as error:
            self.skip(f"No captions, answers and drawings from prompts: {error}")
            return
        self.pipeline.register_modules(language_model=self.language_model, processor=self.processor)

    def read_pictures(self):
        """The caller's images first, then held-out drawings; unreadable ones are reported and left out."""
        for path in self.args.image:
            try:
                image = load_rgb_image(path, name="--image")
            except ValueError as error:
                self.skip(str(error))
            else:
                self.results.seen.append(SeenPicture(Path(path).name, "your image", image))
        folder = Path(self.args.pictures)
        kinds = {"test_drawings": "held-out drawing", "test_concepts": "held-out concept"}
        entries = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
        for entry in entries[: max(0, self.args.num_pictures - len(self.results.seen))]:
            origin = f"{kinds[entry['split']]}, {entry['style']}"
            image = load_rgb_image(folder / entry["file"])
            self.results.seen.append(SeenPicture(entry["caption"], origin, image))
        self.captions = (folder / "captions.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")

    def look(self):
        """Images to codes, and from the codes alone: nearest captions, text, pictures."""
        seen = self.results.seen
        with self.step(f"Encode {len(seen)} images"):
            codes = self.pipeline.encode_image([picture.image for picture in seen])
        for picture, row in zip(seen, codes.tolist(), strict=True):
            picture.codes = row
            print(f"  {picture.name} ({picture.origin}):\n    {' '.join(map(str, row))}")
        with self.step(f"Find the nearest of {len(self.captions)} captions"):
            self.start_retrieval()
            nearest = self.find_captions(codes=codes)
        for picture, found in zip(seen, nearest, strict=True):
            picture.nearest = found
            if found:
                print(f"  {picture.name} -> " + ", ".join(f"{caption} {score:.2f}" for caption, score in found))
        if self.language_model is not None:
            with self.step("Caption, and answer a question"):
                captions = self.write_text(codes, self.processor.caption_prompt)
                question = self.processor.fill_prompt(self.processor.question_prompt, question=self.args.question)
                answers = self.write_text(codes, question)
            print(f"  asked: {self.args.question}")
            for picture, caption, answer in zip(seen, captions, answers, strict=True):
                picture.caption, picture.answer = caption, answer
                print(f"  {picture.name} -> {caption!r}; answer: {answer!r}")
        with self.step("Reconstruct from the codes"):
            images = self.decode(codes)
            reads_as = self.read_back(images)
        for picture, image, caption in zip(seen, images, reads_as, strict=True):
            picture.reconstruction, picture.reads_as = image, caption
        self.print_read_back([picture.name for picture in seen], reads_as)

    def draw(self, prompts: list[str]):
        """Prompts to codes to pictures."""
        with self.step(f"Draw {len(prompts)} prompts"):
            codes = self.pipeline.encode_prompt(prompts, **mini_image_generation(self.processor))
            images = self.decode(codes)
            reads_as = self.read_back(images)
        rows = zip(prompts, codes.tolist(), images, reads_as, strict=True)
        self.results.drawn = [DrawnPicture(*row) for row in rows]
        for prompt, row in zip(prompts, codes.tolist(), strict=True):
            print(f"  {prompt} -> {' '.join(map(str, row))}")
        self.print_read_back(prompts, reads_as)

    # ------------------------------------------------------------------------------------------ parts of steps

    def start_retrieval(self):
        """Computes features of all captions, if the repository has the tokenizer for them."""
        folder = os.path.join(self.args.pipeline, "image_tokenizer")
        if not self.image_tokenizer.config.use_text_tower or not os.path.isfile(f"{folder}/tokenizer.json"):
            self.skip(f"No nearest captions: {folder} has no text side.")
            return
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.caption_features = text_features(self.image_tokenizer, tokenizer, self.captions, max_length=24)

    @torch.no_grad()
    def find_captions(self, count: int = 3, **image) -> list[list[tuple[str, float]]]:
        """Nearest captions of pixel values or codes; empty lists without a text side."""
        if self.caption_features is None:
            return [[] for _ in next(iter(image.values()))]
        features = self.image_tokenizer.get_image_features(**image).pooler_output
        scores, indices = (features @ self.caption_features.t()).topk(min(count, len(self.captions)))
        return [
            [(self.captions[index], score) for index, score in zip(*row, strict=True)]
            for row in zip(indices.tolist(), scores.tolist(), strict=True)
        ]

    def read_back(self, images: list) -> list[str | None]:
        """Finds the caption that fits each drawn picture best for the image tokenizer itself."""
        pixel_values = self.pipeline.image_processor(images, return_tensors="pt")["pixel_values"]
        return [found[0][0] if found else None for found in self.find_captions(count=1, pixel_values=pixel_values)]

    def print_read_back(self, names: list[str], reads_as: list[str | None]):
        """One line: what each drawn picture is taken for."""
        if any(reads_as):
            pairs = zip(names, reads_as, strict=True)
            print("  read back as: " + ", ".join(f"{name} -> {caption}" for name, caption in pairs))

    def write_text(self, codes: torch.Tensor, prompt: str) -> list[str]:
        """Greedy continuations of a prompt with one image, one for each row of codes."""
        return generate_texts(self.language_model, self.processor, codes, prompt, max_new_tokens=16)

    def decode(self, codes: torch.Tensor) -> list:
        """Pictures of codes, each from noise of its own."""
        generators = [torch.Generator().manual_seed(self.args.seed + index) for index in range(len(codes))]
        steps = self.args.num_inference_steps
        return self.pipeline(codes=codes, generator=generators, num_inference_steps=steps).images

    @contextmanager
    def step(self, title: str):
        """Announces a step and records how long it took."""
        print(f"{title} ...", flush=True)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.results.timings.append((title, seconds))
        print(f"  {seconds:.1f} s")

    def skip(self, problem: str):
        """Reports what is left out."""
        self.results.problems.append(problem)
        print(f"  skipped: {problem}")
