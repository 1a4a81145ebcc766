"""The demo's sheet: images with their codes, captions and reconstructions, prompts with their drawings."""

from bisect import bisect_left

from PIL import Image, ImageDraw, ImageFont

from .results import DemoResults, DrawnPicture, SeenPicture


WIDTH, MARGIN, COLUMNS = 1200, 24, 3
PICTURE, CELL, CODES_PER_ROW = 104, 14, 8
CARD_HEIGHT, DRAWING, DRAWINGS_PER_ROW = 196, 126, 8
INK, GREY, PALE, LINE = (28, 30, 34), (104, 110, 120), (247, 247, 249), (222, 224, 229)


def draw_sheet(results: DemoResults) -> Image.Image:
    """
    All results as one image.

    Args:
        results ([`DemoResults`]): Results of one run.

    Returns:
        `PIL.Image.Image`: RGB, 1200 pixels wide.
    """
    seen_rows = -(-len(results.seen) // COLUMNS)
    drawn_rows = -(-len(results.drawn) // DRAWINGS_PER_ROW)
    seen_height = 78 + seen_rows * (CARD_HEIGHT + 12) if seen_rows else 0
    drawn_height = 62 + drawn_rows * (DRAWING + 52) if drawn_rows else 0
    sheet = Image.new("RGB", (WIDTH, MARGIN + seen_height + drawn_height + 8), "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    if results.seen:
        heading = f"Image  >  {len(results.seen[0].codes)} codes  >  text, picture"
        note = "Left: input. Middle: its codes, all that caption, answer and the picture on the right are made from."
        note += f" Asked: {results.question}"
        _draw_heading(pen, top, heading, note)
        for index, picture in enumerate(results.seen):
            row, column = divmod(index, COLUMNS)
            left = MARGIN + column * (WIDTH - 2 * MARGIN + 12) // COLUMNS
            _draw_seen(sheet, pen, left, top + 62 + row * (CARD_HEIGHT + 12), picture, results)
        top += seen_height
    if results.drawn:
        _draw_heading(
            pen, top, "Prompt  >  codes  >  picture", "The language model writes the codes, the decoder draws them."
        )
        for index, picture in enumerate(results.drawn):
            row, column = divmod(index, DRAWINGS_PER_ROW)
            left = MARGIN + column * (WIDTH - 2 * MARGIN + 18) // DRAWINGS_PER_ROW
            _draw_drawn(sheet, pen, left, top + 62 + row * (DRAWING + 52), picture, results)
    return sheet


def _draw_heading(pen: ImageDraw.ImageDraw, top: int, heading: str, note: str):
    pen.text((MARGIN, top), heading, fill=INK, font=_font(22))
    pen.text((MARGIN, top + 31), note, fill=GREY, font=_font(14))


def _draw_seen(sheet, pen, left: int, top: int, picture: SeenPicture, results: DemoResults):
    """Draws one card: input, codes and reconstruction, and below what was said about the image."""
    width = (WIDTH - 2 * MARGIN + 12) // COLUMNS - 12
    pen.rounded_rectangle((left, top, left + width, top + CARD_HEIGHT), radius=10, fill=PALE, outline=LINE)
    codes_width = CELL * CODES_PER_ROW
    codes_left = left + (width - codes_width) // 2
    codes_height = CELL * -(-len(picture.codes) // CODES_PER_ROW)
    middle = top + 12 + PICTURE // 2
    _paste(sheet, pen, picture.image, (left + 12, top + 12), PICTURE)
    _draw_codes(pen, codes_left, middle - codes_height // 2, CELL, picture.codes, results)
    _draw_arrow(pen, left + 12 + PICTURE + 5, codes_left - 5, middle)
    if picture.reconstruction is not None:
        _draw_arrow(pen, codes_left + codes_width + 5, left + width - 12 - PICTURE - 5, middle)
        _paste(sheet, pen, picture.reconstruction, (left + width - 12 - PICTURE, top + 12), PICTURE)
    text_top, text_width = top + PICTURE + 22, width - 24
    said = f"“{picture.caption}”" if picture.caption is not None else picture.name
    pen.text((left + 12, text_top), _fit(said, 18, text_width), fill=INK, font=_font(18))
    if picture.answer is not None:
        pen.text(
            (left + 12, text_top + 25), _fit(f"answer: {picture.answer}", 14, text_width), fill=INK, font=_font(14)
        )
    about = f"is: {picture.name} ({picture.origin})"
    pen.text((left + 12, text_top + 45), _fit(about, 13, text_width), fill=GREY, font=_font(13))


def _draw_drawn(sheet, pen, left: int, top: int, picture: DrawnPicture, results: DemoResults):
    """One drawing under the strip of its codes, with its prompt."""
    cell = DRAWING // (2 * CODES_PER_ROW)
    _draw_codes(
        pen, left + (DRAWING - cell * 2 * CODES_PER_ROW) // 2, top, cell, picture.codes, results, 2 * CODES_PER_ROW
    )
    strip = cell * -(-len(picture.codes) // (2 * CODES_PER_ROW)) + 4
    if picture.image is not None:
        _paste(sheet, pen, picture.image, (left, top + strip), DRAWING)
    text = _fit(picture.prompt, 15, DRAWING)
    x = left + (DRAWING - _font(15).getlength(text)) // 2
    pen.text((x, top + strip + DRAWING + 3), text, fill=INK, font=_font(15))


def _draw_codes(pen, left: int, top: int, cell: int, codes: list[int], results: DemoResults, per_row=CODES_PER_ROW):
    for index, code in enumerate(codes):
        x, y = left + index % per_row * cell, top + index // per_row * cell
        pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=results.color(code))


def _draw_arrow(pen, left: int, right: int, y: int):
    pen.line((left, y, right, y), fill=GREY, width=2)
    pen.polygon([(right + 1, y), (right - 6, y - 4), (right - 6, y + 4)], fill=GREY)


def _paste(sheet, pen, image: Image.Image, corner: tuple[int, int], size: int):
    """The whole image inside a white square."""
    scale = size / max(image.size)
    fitted = image.convert("RGB").resize(
        [max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC
    )
    x, y = corner
    pen.rectangle((x, y, x + size - 1, y + size - 1), fill="white", outline=LINE)
    sheet.paste(fitted, (x + (size - fitted.width) // 2, y + (size - fitted.height) // 2))
    pen.rectangle((x, y, x + size - 1, y + size - 1), outline=LINE)


def _fit(text: str, size: int, width: int) -> str:
    """Cuts a text that is too long for its place."""
    text = " ".join(text.split())
    if _font(size).getlength(text) <= width:
        return text
    fitting = bisect_left(
        range(len(text)), True, key=lambda count: _font(size).getlength(text[:count] + "...") > width
    )
    return text[: max(0, fitting - 1)].rstrip() + "..."


_FONTS: dict[int, ImageFont.FreeTypeFont] = {}


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font inside Pillow, so that the sheet looks the same everywhere."""
    if size not in _FONTS:
        _FONTS[size] = ImageFont.load_default(size)
    return _FONTS[size]


__all__ = ["draw_sheet"]
