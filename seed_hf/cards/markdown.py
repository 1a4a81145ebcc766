"""Makes tables of results in Markdown, and puts them into pages."""

from pathlib import Path


BEGIN, END = "<!-- {} -->", "<!-- /{} -->"


def format_table(results: dict) -> str:
    """
    Makes a Markdown table of results, with the command that measured them.

    Args:
        results (`dict`): Titles of columns by split as `splits`, the table's `rows` with their `name` and values by
            split, and the `command`; see `model_cards/seed-mini-results.json`.

    Returns:
        `str`: The table, which ends with a newline.

    Raises:
        ValueError: A row has no name, or there are no rows.
    """
    rows, splits = results.get("rows"), results.get("splits", {})
    if not rows or not splits:
        raise ValueError(f"`results` has {len(rows or [])} rows and {len(splits)} splits; allowed: some of both.")
    with_chance = any("chance" in row for row in rows)
    header = ["measured", *splits.values(), *(["chance"] if with_chance else [])]
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join(['---', *['---:'] * (len(header) - 1)])} |"]
    for row in rows:
        if not row.get("name"):
            raise ValueError(f"`rows` holds {row!r}; allowed: a dict with a `name`.")
        name = row["name"] + (f" ({row['note']})" if row.get("note") else "")
        cells = [format_number(row.get(split), row.get("unit", "")) for split in splits]
        cells += [format_number(row.get("chance"), row.get("unit", ""))] if with_chance else []
        lines.append(f"| {' | '.join([name, *cells])} |")
    commands = dict.fromkeys(row.get("command", results.get("command")) for row in rows)
    commands = [command for command in commands if command]
    if commands:
        lines += ["", "Measured by " + ", ".join(f"`{command}`" for command in commands) + "."]
    return "\n".join(lines) + "\n"


def format_number(value: float | None, unit: str) -> str:
    """Writes a number with its unit: `12.34, "%"` as `12.3 %`, integers in full, and `None` as a dash."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{text} {unit}".strip()


def update_file(path: Path, table: str, name: str = "results") -> bool:
    """
    Puts the table between the two markers of a file.

    Args:
        path (`Path`): Markdown file with markers such as `<!-- results -->` and `<!-- /results -->`.
        table (`str`): Text to put between them.
        name (`str`, defaults to `"results"`): Name in the markers.

    Returns:
        `bool`: Whether the file changed.

    Raises:
        ValueError: The file has not exactly one of each marker, in this order.
    """
    text = path.read_text(encoding="utf-8")
    begin, end = BEGIN.format(name), END.format(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"`path` is {path}, which has not one {begin} and then one {end}; allowed: a file that has.")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    new = f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"
    path.write_text(new, encoding="utf-8")
    return new != text
