"""The demo's page: one HTML file with everything side by side, that needs nothing else."""

import base64
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from .results import DemoResults, DrawnPicture, SeenPicture


MAX_SIDE = 256
# in the training split of the emoji data, which the installed package does not have
NUM_DRAWINGS = 12_572

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e22; --soft: #5d636e; --paper: #ffffff; --card: #f6f6f8; --line: #dfe1e6;
  --accent: #2f6fdb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9eaee; --soft: #a0a6b2; --paper: #16181c; --card: #1f2227;
  --line: #33373f; --accent: #7fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 1rem; max-width: 48rem; } .soft { color: var(--soft); }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem; min-width: 0; }
.row { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }
figure { margin: 0; } figcaption { font-size: .8rem; color: var(--soft); }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #fff; border-radius: .5rem;
  border: 1px solid var(--line); }
.codes { display: grid; grid-template-columns: repeat(8, 1fr); gap: 2px; margin: .75rem 0; }
.codes span { font: 600 .68rem/1.7 ui-monospace, "DejaVu Sans Mono", monospace; text-align: center;
  border-radius: 3px; }
.codes .dark { color: #fff; } .codes .light { color: #14161a; }
.small .codes span { font-size: 0; line-height: .5rem; height: .5rem; }
.said { font-size: 1.15rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(0, 7.5rem) 1fr; gap: .1rem .75rem; margin: .5rem 0 0;
  font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .5rem; border-radius: .25rem; background: var(--accent); margin-right: .4rem; }
table { border-collapse: collapse; font-size: .9rem; } td { padding: .1rem 1rem .1rem 0; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
.problems { border-left: 4px solid #c8502d; padding: .25rem 1rem; background: var(--card); }
"""


def write_page(results: DemoResults, path: Path):
    """
    Writes all results as one self-contained HTML file, for light and dark screens.

    Args:
        results ([`DemoResults`]): Results of one run.
        path (`Path`): File to write.
    """
    parts = [_head()]
    if results.problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in results.problems)
        parts.append(f'<div class="problems"><strong>Left out</strong><ul>{items}</ul></div>')
    if results.seen:
        cards = "".join(_seen_card(picture, results) for picture in results.seen)
        parts.append(
            f"<h2>Image to codes, codes to text and picture</h2><p class='soft'>Each image becomes "
            f"{len(results.seen[0].codes)} codes. Caption, answer, nearest captions and the drawing on the right are "
            "made from these codes alone. Codes with similar vectors have similar colours.</p>"
            f'<div class="grid">{cards}</div>'
        )
    if results.drawn:
        cards = "".join(_drawn_card(picture, results) for picture in results.drawn)
        parts.append(
            "<h2>Prompt to codes to picture</h2><p class='soft'>The language model writes the codes, the decoder "
            f'draws them.</p><div class="grid small">{cards}</div>'
        )
    rows = "".join(f"<tr><td>{escape(title)}</td><td>{seconds:.1f} s</td></tr>" for title, seconds in results.timings)
    parts.append(f"<h2>Time taken</h2><table>{rows}</table></body></html>\n")
    path.write_text("\n".join(parts), encoding="utf-8")


def _head() -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>seed-mini</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>seed-mini</h1>"
        f"<p>A miniature of SEED, trained on {NUM_DRAWINGS:,} emoji drawings to show how the parts work together. The "
        "drawings it comes with were not in its training data. It knows nothing of photographs and errs often: what "
        "you see is what came out, not a selection.</p>"
    )


def _seen_card(picture: SeenPicture, results: DemoResults) -> str:
    """One image and everything made of its codes."""
    figures = _figure(picture.image, picture.name, f"{escape(picture.name)}, {escape(picture.origin)}")
    if picture.reconstruction is not None:
        note = "drawn from the codes"
        note += f"; reads back as {escape(picture.reads_as)}" if picture.reads_as else ""
        figures += _figure(picture.reconstruction, "reconstruction", note)
    facts = ""
    if picture.answer is not None:
        facts += f"<dt>{escape(results.question)}</dt><dd>{escape(picture.answer)}</dd>"
    for index, (caption, score) in enumerate(picture.nearest):
        bar = f'<span class="bar" style="width:{max(0.0, score) * 4:.2f}rem"></span>'
        facts += f"<dt>{'nearest captions' if index == 0 else ''}</dt><dd>{bar}{escape(caption)} {score:.2f}</dd>"
    said = f'<p class="said">“{escape(picture.caption)}”</p>' if picture.caption is not None else ""
    return f'<article><div class="row">{figures}</div>{_codes(picture.codes, results)}{said}<dl>{facts}</dl></article>'


def _drawn_card(picture: DrawnPicture, results: DemoResults) -> str:
    """One prompt and its drawing."""
    figure = "" if picture.image is None else _figure(picture.image, picture.prompt, "")
    note = f'<p class="soft">reads back as {escape(picture.reads_as)}</p>' if picture.reads_as else ""
    prompt = f'<p class="said">{escape(picture.prompt)}</p>'
    return f"<article>{figure}{_codes(picture.codes, results)}{prompt}{note}</article>"


def _figure(image: Image.Image, alt: str, caption: str) -> str:
    image = image.convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">{caption}</figure>'


def _codes(codes: list[int], results: DemoResults) -> str:
    cells = []
    for code in codes:
        red, green, blue = results.color(code)
        # black or white ink, whichever can be read on this colour
        ink = "light" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "dark"
        cells.append(f'<span class="{ink}" style="background:rgb({red},{green},{blue})">{code}</span>')
    return f'<div class="codes">{"".join(cells)}</div>'


__all__ = ["write_page"]
