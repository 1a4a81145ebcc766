"""The tab that draws an image from its codes, lets one change them, and shows meaning arriving from left to right."""

from collections.abc import Iterator

import gradio as gr
import torch

from ..edits import nearest
from .chips import check_chips, code_chips, image_chips
from .limits import Desk, check_whole, refuse
from .parts import Examples, image_upload, picture_row, picture_view, upload_path


_ABOUT = """Every image becomes a few codes, and a picture is drawn from these alone. **Click a code, then one of its
neighbours below**, and see what changes. Each code builds on those to its left: keep only the first ones with the
slider."""
_NEAREST = 15
_SEED = 0


class Reconstruct:
    """
    What the tab does.

    Args:
        desk ([`Desk`]): Models.
    """

    def __init__(self, desk: Desk):
        self.desk = desk
        self.codes_of_place = desk.studio.codes_of_place
        count = len(self.codes_of_place)
        self.prefixes = sorted({*(2**power for power in range(count.bit_length()) if 2**power < count), count})

    def neighbours(self, place: int, code: int) -> dict:
        """The codes that are most like one, at its place; that one first."""
        count = min(_NEAREST, len(self.codes_of_place[place]) - 1)
        others = nearest(self.desk.studio.image_tokenizer, torch.tensor(code), count)
        return {"codes": [code, *others.tolist()], "place": 0}

    def draw(self, codes: list[int], kept: int):
        """A picture of the first codes."""
        with self.desk.job() as job:
            return job.draw(torch.tensor([codes[:kept]]), [_SEED])[0]

    def show(self, chips: dict) -> list:
        """What the tab shows of codes, without their picture: chips, place, neighbours and the field for a code."""
        place, code = chips["place"], chips["codes"][chips["place"]]
        allowed = self.codes_of_place[place]
        label = f"Code at place {place + 1}: {allowed.start} to {allowed.stop - 1}"
        field = gr.update(value=code, label=label, minimum=allowed.start, maximum=allowed.stop - 1)
        return [chips, f"**Nearest to code {code} at place {place + 1}**", self.neighbours(place, code), field]

    # ------------------------------------------------------------------------------------------ events
    def on_image(self, image, kept: int):
        """Another image."""
        path = upload_path(image)
        if path is None:
            return [gr.skip()] * 5
        kept = check_whole(kept, "The number of codes kept", 1, len(self.codes_of_place))
        with self.desk.job() as job:
            codes = job.encode([path])[0].tolist()
        chips = image_chips(codes, kept=kept)
        return [*self.show(chips), self.draw(codes, kept)]

    def on_place(self, chips, event: gr.EventData):
        """A click on a code of the image."""
        chips = check_chips(chips, self.codes_of_place)
        place = getattr(event, "number", None)
        return self.show(check_chips({**chips, "place": place}, self.codes_of_place))

    def on_neighbour(self, chips, neighbours, event: gr.EventData):
        """A click on a neighbour."""
        try:
            return self.on_code(chips, neighbours["codes"][int(event.number)])
        except (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError):
            raise refuse("This is no code. Please reload the page.") from None

    def on_code(self, chips, code):
        """Another code at the place that is chosen."""
        chips = check_chips(chips, self.codes_of_place)
        allowed = self.codes_of_place[chips["place"]]
        code = check_whole(code, "A code at this place", allowed.start, allowed.stop - 1)
        chips["codes"][chips["place"]] = code
        return [*self.show(chips), self.draw(chips["codes"], chips["kept"])]

    def on_reset(self, chips):
        """The codes of the image again."""
        chips = check_chips(chips, self.codes_of_place)
        chips["codes"] = chips["original"]
        return [*self.show(chips), self.draw(chips["codes"], chips["kept"])]

    def on_kept(self, chips, kept: int):
        """Another number of codes."""
        chips = check_chips(chips, self.codes_of_place)
        chips["kept"] = check_whole(kept, "The number of codes kept", 1, len(self.codes_of_place))
        return chips, self.draw(chips["codes"], chips["kept"])

    def on_play(self, chips) -> Iterator[list]:
        """Pictures of more and more codes, one after the other."""
        chips, pictures = check_chips(chips, self.codes_of_place), []
        for kept in self.prefixes:
            word = "code" if kept == 1 else "codes"
            pictures.append((self.draw(chips["codes"], kept), f"{kept} {word}"))
            yield pictures


def add_reconstruct(desk: Desk, examples: Examples) -> None:
    """Adds the tab's components and events to the page."""
    tab = Reconstruct(desk)
    codes, count = examples.codes[0].tolist(), desk.studio.num_codes
    chips_value, heading_value, neighbours_value, field = tab.show(image_chips(codes))
    *_, strip_value = tab.on_play(chips_value)
    gr.Markdown(_ABOUT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            image = image_upload(str(examples.paths[0]), label="Image", height=300, elem_id="reconstruct-image")
            examples.choose_for(image, elem_id="reconstruct-examples")
        with gr.Column(min_width=280):
            label = "Drawn from the codes"
            picture = picture_view(strip_value[-1][0], label=label, height=300, elem_id="reconstruct-picture")
            slider = gr.Slider(
                1, count, value=count, step=1, label="Codes kept, from the left", elem_id="reconstruct-kept"
            )
        with gr.Column(min_width=300):
            gr.Markdown(f"**The {count} codes**")
            chips = code_chips(chips_value, "Codes of the image", elem_id="reconstruct-chips")
            heading = gr.Markdown(heading_value, elem_id="reconstruct-heading")
            neighbours = code_chips(neighbours_value, "Codes to choose from", elem_id="reconstruct-neighbours")
            with gr.Row():
                number = gr.Number(field["value"], precision=0, label=field["label"], min_width=140)
                reset = gr.Button("Undo all changes", min_width=120)
    label = "Meaning arrives from left to right: pictures of the first codes"
    strip = picture_row(strip_value, label, "reconstruct-strip")
    play = gr.Button("Draw this row for the codes above")
    shown = [chips, heading, neighbours, number]
    private = {"api_visibility": "private", "show_progress_on": picture}
    chips.select(tab.on_place, [chips], shown, queue=False, show_progress="hidden", api_visibility="private")
    desk.on_models(
        neighbours.select, fn=tab.on_neighbour, inputs=[chips, neighbours], outputs=[*shown, picture], **private
    )
    desk.on_models(
        number.submit, fn=tab.on_code, inputs=[chips, number], outputs=[*shown, picture], preprocess=False, **private
    )
    desk.on_models(reset.click, fn=tab.on_reset, inputs=[chips], outputs=[*shown, picture], **private)
    desk.on_models(
        slider.change,
        fn=tab.on_kept,
        inputs=[chips, slider],
        outputs=[chips, picture],
        preprocess=False,
        trigger_mode="always_last",
        **private,
    )
    desk.on_models(play.click, fn=tab.on_play, inputs=[chips], outputs=[strip], api_visibility="private")
    desk.on_models(
        image.change,
        fn=tab.on_image,
        inputs=[image, slider],
        outputs=[*shown, picture],
        preprocess=False,
        api_name="reconstruct",
        show_progress_on=picture,
    ).failure(lambda: None, None, [image], queue=False, api_visibility="private")


__all__ = ["Reconstruct", "add_reconstruct"]
