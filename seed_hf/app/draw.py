"""The tab that draws what words say, and shows the picture while its codes are written."""

from collections.abc import Iterator

import gradio as gr

from .chips import code_chips
from .limits import Desk, check_whole, check_words, refuse
from .parts import picture_row
from .streams import Writing, stream


_ABOUT = """The language model **writes the codes of a picture, one after the other**, as it would write words; the row
shows what they say so far. The same codes are then drawn from several seeds."""
_PROMPTS = ["red heart", "smiling face", "rainbow", "green apple", "dog", "sunflower"]
_MAX_SEED = 2**31


class Draw:
    """
    What the tab does.

    Args:
        desk ([`Desk`]): Models.
    """

    def __init__(self, desk: Desk):
        self.desk = desk
        self.defaults = desk.studio.pipeline.config
        # what the pipeline's author chose is allowed, wherever it lies
        self.guidance_range = min(1, self.defaults.guidance_scale), max(20, self.defaults.guidance_scale)
        self.most_steps = max(desk.limits.steps, self.defaults.num_inference_steps)

    def check(self, words, count, seed, guidance, steps) -> tuple[int, int, int]:
        """The numbers of a wish as whole numbers, or `gr.Error`."""
        limits = self.desk.limits
        if words == "" or isinstance(words, str) and words.isspace():
            raise refuse("Please say what to draw.")
        check_words(words, limits.words)
        least, most = self.guidance_range
        if not isinstance(guidance, int | float) or not least <= guidance <= most:
            raise refuse(f"The guidance goes from {least:g} to {most:g}.")
        count = check_whole(count, "The number of pictures", 1, limits.pictures)
        seed = check_whole(seed, "The first seed", 0, _MAX_SEED)
        return count, seed, check_whole(steps, "The number of steps", 1, self.most_steps)

    def on_draw(self, words: str, count=2, seed=0, guidance=None, steps=None) -> Iterator[list]:
        """Yields chips, the pictures so far, and the pictures."""
        guidance = self.defaults.guidance_scale if guidance is None else guidance
        steps = self.defaults.num_inference_steps if steps is None else steps
        count, seed, steps = self.check(words, count, seed, guidance, steps)

        def work(job, show):
            so_far = []

            def show_writing(pieces, preview):
                codes = pieces[-1].codes.tolist() if pieces and pieces[-1].codes is not None else []
                if preview is not None:
                    so_far.append((preview, f"{len(codes)} codes" if len(codes) > 1 else "1 code"))
                    show([{"codes": codes}, list(so_far), gr.skip()])

            codes = job.studio.write_codes([words], on_tokens=Writing(job, show_writing, seed, guidance))
            chips = {"codes": codes[0].tolist()}
            seeds = [seed + number for number in range(count)]
            pictures = job.draw(codes.expand(count, -1), seeds, steps=steps, guidance=guidance)
            captions = [f"seed {seed}" for seed in seeds]
            so_far.append((pictures[0], f"all {codes.shape[1]} codes"))
            show([chips, so_far, list(zip(pictures, captions, strict=True))])

        yield from stream(self.desk, work)


def add_draw(desk: Desk) -> None:
    """Adds the tab's components and events to the page."""
    tab, limits = Draw(desk), desk.limits
    *_, (chips_value, row_value, pictures_value) = tab.on_draw(_PROMPTS[0])
    gr.Markdown(_ABOUT)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            words = gr.Textbox(_PROMPTS[0], label="What to draw", max_length=limits.words, elem_id="draw-words")
            gr.Examples([[prompt] for prompt in _PROMPTS], [words], label="Or one of these")
            button = gr.Button("Draw", variant="primary", elem_id="draw-button")
            with gr.Row():
                count = gr.Slider(1, limits.pictures, value=2, step=1, label="Pictures", min_width=120)
                seed = gr.Number(0, label="First seed", precision=0, minimum=0, maximum=_MAX_SEED, min_width=120)
            with gr.Row():
                label, value = "Guidance", tab.defaults.guidance_scale
                guidance = gr.Slider(*tab.guidance_range, value=value, step=0.5, label=label, min_width=120)
                label, value = "Steps", tab.defaults.num_inference_steps
                steps = gr.Slider(1, tab.most_steps, value=value, step=1, label=label, min_width=120)
        with gr.Column(min_width=320):
            pictures = gr.Gallery(
                pictures_value,
                label="Pictures",
                columns=2,
                height=None,
                object_fit="contain",
                interactive=False,
                buttons=["download"],
                elem_id="draw-pictures",
                elem_classes=["found"],
            )
            gr.Markdown("**The codes that it wrote**")
            chips = code_chips(chips_value, "Codes that were written", elem_id="draw-chips")
    row = picture_row(row_value, "While it writes: pictures of the codes so far", "draw-row")
    desk.on_models(
        button.click,
        words.submit,
        fn=tab.on_draw,
        inputs=[words, count, seed, guidance, steps],
        outputs=[chips, row, pictures],
        preprocess=False,
        api_name="draw",
        show_progress_on=pictures,
    )


__all__ = ["Draw", "add_draw"]
