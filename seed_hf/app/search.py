"""The tabs that find images by their codes alone: by words, by an image, by a code at a place."""

from pathlib import Path

import gradio as gr
import torch

from .chips import code_chips
from .limits import Desk, check_whole, check_words, refuse
from .parts import Examples, image_upload, upload_path
from .shelf import UPLOADS, Shelf, Shelves


_ABOUT = """Images are found by their **codes alone**: 64 bytes for an image of 32 codes. Ask in words, or with an
image."""
_ABOUT_CODEBOOK = """What does a code stand for? Choose a place and a code: these are the **images that have this code
there**."""
_QUERIES = ["red fruit", "animal", "face", "music"]
_TOP = 8
_MOST_CODES = 64


class Search:
    """
    What both tabs do.

    Args:
        desk ([`Desk`]): Models.
        shelves ([`Shelves`]): Sets of images.
    """

    def __init__(self, desk: Desk, shelves: Shelves):
        self.desk, self.shelves = desk, shelves

    def on_upload(self, files):
        """A visitor's own set."""
        limits, files = self.desk.limits, files if isinstance(files, list) else []
        paths = [upload_path(file) for file in files if file is not None]
        if not paths:
            raise refuse("Please choose some images.")
        if len(paths) > limits.images:
            raise refuse(f"Please upload at most {limits.images} images.")
        with self.desk.job() as job:
            shelf = Shelf.of(job, paths)
        left_out = len(paths) - len(shelf.paths)
        message = f"{len(shelf.paths)} images are ready" + (f", {left_out} could not be read." if left_out else ".")
        return shelf, UPLOADS, UPLOADS, message

    # ------------------------------------------------------------------------------------------ search
    def nearest(self, job, shelf: Shelf, query: torch.Tensor) -> list:
        """Images for a gallery, the nearest first."""
        scores, numbers = (shelf.features @ query.cpu()).topk(min(_TOP, len(shelf.paths)))
        rows = list(zip(numbers.tolist(), scores.tolist(), strict=True))
        captions = [f"{score:.2f} {_name(shelf, number)}" for number, score in rows]
        return shelf.show(job, numbers.tolist(), captions)

    def on_words(self, name: str, words: str, uploads=None):
        """Images for words."""
        words = check_words(words, self.desk.limits.words)
        shelf = self.shelves.find(name, uploads)
        with self.desk.job() as job:
            return self.nearest(job, shelf, job.studio.text_features([words])[0])

    def on_image(self, name: str, image, uploads=None):
        """Images for an image."""
        path = upload_path(image)
        if path is None:
            return gr.skip()
        shelf = self.shelves.find(name, uploads)
        with self.desk.job() as job:
            return self.nearest(job, shelf, job.studio.image_features(job.encode([path]))[0])

    # ------------------------------------------------------------------------------------------ codebook
    def on_place(self, name: str, place: int, uploads=None):
        """The codes at a place with their counts, the most frequent first, and the images of the first."""
        shelf = self.shelves.find(name, uploads)
        place = check_whole(place, "The place", 1, shelf.codes.shape[1])
        codes, counts = shelf.codes[:, place - 1].unique(return_counts=True)
        order = counts.argsort(descending=True, stable=True)[:_MOST_CODES]
        chips = {"codes": codes[order].tolist(), "counts": counts[order].tolist()}
        return [{**chips, "place": 0}, *self.with_code(shelf, place, chips["codes"][0])]

    def on_code(self, name: str, place: int, chips, uploads, event: gr.EventData):
        """A click on a code."""
        shelf = self.shelves.find(name, uploads)
        place = check_whole(place, "The place", 1, shelf.codes.shape[1])
        try:
            number = int(event.number)
            code = int(chips["codes"][number])
            return [{**chips, "place": number}, *self.with_code(shelf, place, code)]
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
            raise refuse("This is no code. Please reload the page.") from None

    def with_code(self, shelf: Shelf, place: int, code: int) -> tuple[str, list]:
        """A heading, and the images that have a code at a place."""
        numbers = (shelf.codes[:, place - 1] == code).nonzero().flatten().tolist()
        count = "1 image has" if len(numbers) == 1 else f"{len(numbers)} images have"
        shown = numbers[: 4 * _TOP]
        with self.desk.job() as job:
            images = shelf.show(job, shown, [_name(shelf, number) for number in shown])
        return f"**{count} code {code} at place {place}**", images


def add_search(desk: Desk, examples: Examples, folder: Path | None = None) -> None:
    """Adds both tabs to the page; they share the visitor's own images."""
    tab = Search(desk, Shelves(desk, examples, folder))
    names = tab.shelves.names
    uploads = gr.State(None, time_to_live=desk.limits.keep_seconds)
    with gr.Tab("Search"):
        chosen = _add_search_tab(tab, names, uploads)
    with gr.Tab("Codebook"):
        chosen_too = _add_codebook_tab(tab, names, uploads)
    files, note, name = chosen
    desk.on_models(
        files.upload,
        fn=tab.on_upload,
        inputs=[files],
        outputs=[uploads, name, chosen_too, note],
        preprocess=False,
        api_visibility="private",
    )


def _add_search_tab(tab: Search, names: list[str], uploads) -> tuple:
    has_words = tab.desk.studio.text_tokenizer is not None
    start = tab.on_words(names[0], _QUERIES[0]) if has_words else []
    gr.Markdown(_ABOUT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            name = gr.Radio(names, value=names[0], label="Where to search", elem_id="search-set")
            words = gr.Textbox(_QUERIES[0], label="Words", visible=has_words, elem_id="search-words")
            with gr.Row(visible=has_words):
                gr.Examples([[query] for query in _QUERIES], [words], label="For example")
            button = gr.Button("Search", variant="primary", visible=has_words, elem_id="search-button")
            image = image_upload(label="Or an image", height=200, elem_id="search-image")
            files = gr.File(
                label="My own images", file_count="multiple", file_types=["image"], height=140, elem_id="search-files"
            )
            note = gr.Markdown(elem_id="search-note")
        with gr.Column(scale=2, min_width=320):
            gallery = _gallery(start, "Nearest first", "search-results")
    events = {"outputs": [gallery], "show_progress_on": gallery, "preprocess": False}
    inputs = [name, words, uploads]
    tab.desk.on_models(button.click, words.submit, fn=tab.on_words, inputs=inputs, api_name="search", **events)
    events |= {"api_visibility": "private"}
    event = tab.desk.on_models(image.change, fn=tab.on_image, inputs=[name, image, uploads], **events)
    event.failure(lambda: None, None, [image], queue=False, api_visibility="private")
    return files, note, name


def _add_codebook_tab(tab: Search, names: list[str], uploads):
    chips_value, heading_value, images_value = tab.on_place(names[0], 1)
    gr.Markdown(_ABOUT_CODEBOOK)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            name = gr.Radio(names, value=names[0], label="Images", elem_id="codebook-set")
            count = tab.desk.studio.num_codes
            place = gr.Slider(1, count, value=1, step=1, label="Place", elem_id="codebook-place")
            gr.Markdown("**Codes at this place**, the most frequent first")
            chips = code_chips(chips_value, "Codes at this place", elem_id="codebook-chips")
        with gr.Column(scale=2, min_width=320):
            heading = gr.Markdown(heading_value, elem_id="codebook-heading")
            gallery = _gallery(images_value, "Images with this code", "codebook-results")
    settings = {"outputs": [chips, heading, gallery], "api_visibility": "private", "show_progress_on": gallery}
    inputs = [name, place, uploads]
    tab.desk.on_models(
        place.change, name.change, fn=tab.on_place, inputs=inputs, trigger_mode="always_last", **settings
    )
    tab.desk.on_models(chips.select, fn=tab.on_code, inputs=[name, place, chips, uploads], **settings)
    return name


def _name(shelf: Shelf, number: int) -> str:
    return shelf.paths[number].stem.replace("-", " ")


def _gallery(value: list, label: str, elem_id: str) -> gr.Gallery:
    settings = {
        "columns": 4,
        "height": 460,
        "object_fit": "contain",
        "interactive": False,
        "buttons": [],
        "elem_classes": ["found"],
    }
    return gr.Gallery(value, label=label, elem_id=elem_id, **settings)


__all__ = ["Search", "add_search"]
