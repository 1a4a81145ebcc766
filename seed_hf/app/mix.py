"""The tab that takes the left codes of one image and the right codes of another."""

import gradio as gr
import torch

from ..edits import mix
from .chips import code_chips, image_chips
from .limits import Desk, check_whole
from .parts import Examples, image_upload, picture_row, picture_view, upload_path
from .streams import skip


_ABOUT = """The mixed picture has the **left codes of the first image and the right codes of the second**. Move the
border between them, and one image turns into the other."""
_PARTS = 4
_SEED = 0


class Mix:
    """
    What the tab does.

    Args:
        desk ([`Desk`]): Models.
    """

    def __init__(self, desk: Desk):
        self.desk = desk
        count = desk.studio.num_codes
        self.borders = sorted({count * part // _PARTS for part in range(_PARTS + 1)})

    def draw(self, job, left: torch.Tensor, right: torch.Tensor, border: int) -> tuple:
        """Chips, the picture for a border, and those for some borders."""
        borders = [border, *self.borders]
        codes = torch.cat([mix(left[None], right[None], at=cut) for cut in borders])
        picture, *row = job.draw(codes, [_SEED] * len(borders))
        captions = [f"{cut} + {len(left) - cut} codes" for cut in self.borders]
        chips = image_chips(codes[0].tolist(), left.tolist(), place=-1)
        return chips, picture, list(zip(row, captions, strict=True))

    def on_change(self, first, second, border):
        """Another image or border. An image that cannot be read is taken away."""
        paths = [upload_path(first), upload_path(second)]
        if None in paths:
            return skip(5)
        border = check_whole(border, "The border", 0, self.desk.studio.num_codes)
        with self.desk.job() as job:
            images = [job.try_read(path) for path in paths]
            if None in images:
                gr.Warning("This file cannot be read as an image.")
                return [None if image is None else gr.skip() for image in images] + skip(3)
            return [*skip(2), *self.draw(job, *job.studio.encode(images), border)]


def add_mix(desk: Desk, examples: Examples) -> None:
    """Adds the tab's components and events to the page."""
    tab, count = Mix(desk), desk.studio.num_codes
    border_value, names = count // 2, ("First image: left codes", "Second image: right codes")
    with desk.job() as job:
        chips_value, picture_value, row_value = tab.draw(job, *examples.codes[1:3], border_value)
    gr.Markdown(_ABOUT)
    with gr.Row(equal_height=False):
        images = []
        for path, name, side in zip(examples.paths[1:3], names, ("first", "second"), strict=True):
            with gr.Column(min_width=240):
                images.append(image_upload(str(path), label=name, height=240, elem_id=f"mix-{side}"))
                examples.choose_for(images[-1], elem_id=f"mix-{side}-examples")
        with gr.Column(min_width=280):
            picture = picture_view(picture_value, label="Mixed", height=240, elem_id="mix-picture")
            label = "Codes from the first image"
            border = gr.Slider(0, count, value=border_value, step=1, label=label, elem_id="mix-border")
            gr.Markdown("**The mixed codes**; those underlined are from the second image")
            chips = code_chips(chips_value, "Mixed codes", elem_id="mix-chips")
    row = picture_row(row_value, "From the second image to the first", "mix-row")
    desk.on_models(
        images[0].change,
        images[1].change,
        border.change,
        fn=tab.on_change,
        inputs=[*images, border],
        outputs=[*images, chips, picture, row],
        preprocess=False,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress_on=picture,
    )


__all__ = ["Mix", "add_mix"]
