"""Codes as chips: a grid of buttons, of which one can be chosen."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from .limits import refuse


# `value` has `codes`; and where they are those of an image, `original` (before changes), `place` and `kept`
_TEMPLATE = """
<div class="chips" role="group" aria-label="${label}">${value.codes.map((code, i) => `<button type="button"
  class="chip ${value.place === i ? 'chosen' : ''} ${value.original && value.original[i] !== code ? 'changed' : ''}
  ${value.kept !== undefined && i >= value.kept ? 'dropped' : ''}" style="--hue: ${code * 137 % 360}"
  data-number="${i}" aria-pressed="${value.place === i}"
  title="${value.original ? 'Place ' + (i + 1) + ': code ' + code : 'Code ' + code}">${value.original
  ? `<small>${i + 1}</small>` : ''}${code}${value.counts ? `<small>&times;${value.counts[i]}</small>` : ''}</button>`
  ).join('')}</div>
"""
_SCRIPT = """
element.addEventListener('click', event => {
  const chip = event.target.closest('.chip');
  if (chip) trigger('select', {number: Number(chip.dataset.number)});
});
"""
CSS = """
.chips {display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: .25rem}
.chip {background: hsl(var(--hue) 70% 88%); color: hsl(var(--hue) 60% 18%); border: 2px solid transparent;
  border-radius: .5rem; padding: .3rem .1rem .2rem; line-height: 1.15; font-size: .8rem; cursor: pointer;
  font-variant-numeric: tabular-nums; display: flex; flex-direction: column; align-items: center}
.chip small {font-size: .6rem; opacity: .7}
.chip:hover {filter: brightness(.95)}
.chip.chosen {border-color: var(--body-text-color)}
.chip.changed {font-weight: 700; text-decoration: underline}
.chip.dropped {opacity: .25}
.dark .chip {background: hsl(var(--hue) 40% 26%); color: hsl(var(--hue) 70% 90%)}
"""


def code_chips(value: dict[str, Any], label: str, **settings) -> gr.HTML:
    """
    A grid of codes; its event `select` has the `number` of the chip.

    Args:
        value (`dict`): See [`image_chips`]; or `codes` alone, or with `counts`.
        label (`str`): What they are, for screen readers.
        settings: For `gr.HTML`.

    Returns:
        `gr.HTML`: The component, whose value is such a dictionary.
    """
    settings = {"js_on_load": _SCRIPT, "apply_default_css": False, "show_label": False, **settings}
    return gr.HTML(value, html_template=_TEMPLATE, label=label, **settings)


def image_chips(codes: Sequence[int], original: Sequence[int] | None = None, place: int = 0, kept: int | None = None):
    """
    The value of the chips of an image.

    Args:
        codes (`Sequence[int]`): Codes as they are now.
        original (`Sequence[int]`, *optional*): Codes of the image; by default `codes`.
        place (`int`, defaults to 0): The place that is chosen.
        kept (`int`, *optional*): How many codes, from the left, are drawn; by default all.

    Returns:
        `dict`
    """
    original = list(codes if original is None else original)
    return {"codes": list(codes), "original": original, "place": place, "kept": kept or len(original)}


def check_chips(value: Any, codes_of_place: Sequence[range]) -> dict[str, Any]:
    """
    Checks what a browser says the chips of an image are.

    Args:
        value (`Any`): What came.
        codes_of_place (`Sequence[range]`): For each place the codes that may stand there.

    Returns:
        `dict`: As [`image_chips`] makes it.

    Raises:
        gr.Error: It is something else.
    """
    count = len(codes_of_place)
    try:
        rows = [[int(code) for code in value[name]] for name in ("codes", "original")]
        place, kept = int(value["place"]), int(value["kept"])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise refuse("These are no codes. Please reload the page.") from None
    fits = all(len(row) == count and all(map(range.__contains__, codes_of_place, row)) for row in rows)
    if not fits or not 0 <= place < count or not 1 <= kept <= count:
        raise refuse("These are no codes of this model. Please reload the page.")
    return image_chips(*rows, place, kept)


__all__ = ["CSS", "check_chips", "code_chips", "image_chips"]
