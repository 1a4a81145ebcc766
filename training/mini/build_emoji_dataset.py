"""Build the emoji data set that seed-mini is trained on: drawings in many styles with human names and tags.

The parquet files in `training/data/emoji` come from this script; users need neither npm nor this file. To rebuild:

    python training/mini/build_emoji_dataset.py --output_dir training/data/emoji --cache_dir ~/.cache/seed_hf/emoji

It needs `npm` (fetches packages with `npm pack`) and `pip install resvg-py datasets`. Every choice (which name means
which emoji, splits, seeds) is in this file and in `emoji_sources.py`, so the same package versions give the same rows
and splits.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import statistics
import subprocess
import tarfile
import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path(__file__).parents[1] / "data" / "emoji",
        help="Folder for the parquet files.",
    )
    parser.add_argument(
        "--cache_dir",
        type=Path,
        default=Path.home() / ".cache" / "seed_hf" / "emoji",
        help="Folder for the packages with the drawings.",
    )
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="Number of processes that draw.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import resvg_py
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from seed_hf.mini.emoji_sources import SOURCES, TEXT_PACKAGE, Source


SIZE = 64
RENDER_SIZE = 256
MARGIN_RATIO = 0.04
WEBP_QUALITY = 85
SEED = "seed-mini emoji v1"
NUM_TEST_CONCEPTS = 100
NUM_VALIDATION_CONCEPTS = 50
TEST_DRAWING_RATIO = 0.10
VALIDATION_DRAWING_RATIO = 0.04
GROUPS_OF_THINGS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
SPLITS = ("train", "validation", "test_drawings", "test_concepts")

# Flags that are drawn exactly like another one (Norway, Australia, Spain, France, United States, ...).
REPEATED_FLAGS = {"BV", "CP", "DG", "EA", "HM", "MF", "SJ", "UM"}

# The Firefox OS set has names of its own: icon name -> CLDR name, "" for icons that are left out. Each was looked at
# beside the other styles.
FXEMOJI_NAMES = Path(__file__).parent / "fxemoji_names.json"


def fetch(package: str, cache_dir: Path) -> Path:
    """Download and unpack one npm package (once); returns the folder with its files."""
    target = cache_dir / re.sub(r"[^a-z0-9.]+", "-", package.lower()).strip("-")
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", package, "--silent", "--pack-destination", str(cache_dir)]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
        with tarfile.open(cache_dir / name) as archive:
            archive.extractall(target, filter="data")
    return target / "package"


def read_json(path: Path) -> dict | list:
    """Parse one UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def slug(name: str) -> str:
    """Write a name the way icon sets do: `"flag: Côte d’Ivoire"` -> `"flag-cote-divoire"`."""
    name = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)).lower()
    for old, new in (("&", "and"), ("’", ""), ("'", ""), (".", ""), ("*", "asterisk"), ("#", "number-sign")):
        name = name.replace(old, new)
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def bare_hexcode(hexcode: str) -> str:
    """Hexcode without variation selectors and leading zeros, so that all sets agree."""
    return "-".join(part.lstrip("0") for part in hexcode.upper().split("-") if part != "FE0F")


def read_concepts(folder: Path) -> dict[str, dict]:
    """Emoji without skin tones, hair parts and lone regional letters, by bare hexcode, in CLDR order."""
    groups = read_json(folder / "meta/groups.json")
    concepts = {}
    for entry in sorted(read_json(folder / "en/data.json"), key=lambda entry: entry.get("order", 0)):
        group = groups["groups"].get(str(entry.get("group")))
        region = "".join(chr(ord(c) - 0x1F1E6 + ord("A")) for c in entry["emoji"] if 0x1F1E6 <= ord(c) <= 0x1F1FF)
        if group in (None, "component") or region in REPEATED_FLAGS:
            continue
        concepts[bare_hexcode(entry["hexcode"])] = {
            "caption": entry["label"],
            "tags": entry.get("tags", []),
            "group": group,
            "subgroup": groups["subgroups"][str(entry["subgroup"])],
            "emoji": entry["emoji"],
        }
    return concepts


def name_tables(concepts: dict[str, dict], folder: Path, icon_sets: list[Path]) -> list[dict[str, str]]:
    """Tables name -> bare hexcode, the most trustworthy first.

    CLDR names; names in the sets that publish their own code point table; old Unicode names; short codes.
    """
    cldr = {slug(concept["caption"]): hexcode for hexcode, concept in concepts.items()}
    sets: dict[str, str] = {}
    for icon_set in icon_sets:
        icons = read_json(icon_set / "icons.json")
        for hexcode, name in read_json(icon_set / "chars.json").items():
            if bare_hexcode(hexcode) in concepts:
                sets.setdefault(name, bare_hexcode(hexcode))
        for name, alias in icons.get("aliases", {}).items():
            if set(alias) == {"parent"} and alias["parent"] in sets:
                sets.setdefault(name, sets[alias["parent"]])
    unicode_names, short_codes = {}, {}
    for hexcode, concept in concepts.items():
        characters = concept["emoji"].replace("\ufe0f", "")
        if len(characters) == 1:
            unicode_names[slug(unicodedata.name(characters, hexcode))] = hexcode
    for kind in ("cldr", "joypixels", "iamcal"):
        for hexcode, names in read_json(folder / f"en/shortcodes/{kind}.json").items():
            if bare_hexcode(hexcode) in concepts:
                for name in [names] if isinstance(names, str) else names:
                    short_codes.setdefault(slug(name), bare_hexcode(hexcode))
    return [cldr, sets, unicode_names, short_codes]


def fxemoji_table(concepts: dict[str, dict]) -> dict[str, str]:
    """The names in `FXEMOJI_NAMES` as icon name -> bare hexcode, `""` for icons that are left out."""
    labels = {concept["caption"]: hexcode for hexcode, concept in concepts.items()} | {"": ""}
    return {icon: labels[label] for icon, label in read_json(FXEMOJI_NAMES).items()}


def match_by_name(icons: dict, tables: list[dict[str, str]], own_names: dict[str, str]) -> dict[str, str]:
    """Bare hexcode -> icon name, for sets that publish only names; `own_names` first, then the best match wins."""
    aliases = defaultdict(list)
    for name, alias in icons.get("aliases", {}).items():
        if set(alias) == {"parent"}:
            aliases[alias["parent"]].append(name)
    squashed = [{name.replace("-", ""): hexcode for name, hexcode in reversed(table.items())} for table in tables]
    best: dict[str, tuple[int, str]] = {}
    for icon in icons["icons"]:
        if icon in own_names:
            best[own_names[icon]] = (-1, icon)
            continue
        candidates = []
        for is_alias, name in [(0, icon), *((1, alias) for alias in aliases[icon])]:
            name = re.sub("^flag-for-(flag-)?", "flag-", name)
            first = name.removesuffix("-1")  # "cactus-1", where a set draws several
            for rank, (table, flat) in enumerate(zip(tables, squashed, strict=True)):
                hexcode = table.get(name) or flat.get(name.replace("-", "")) or table.get(first)
                if hexcode:
                    candidates.append((2 * rank + is_alias, hexcode))
        if candidates:
            rank, hexcode = min(candidates)
            best[hexcode] = min(best.get(hexcode, (99, "")), (rank, icon))
    return {hexcode: icon for hexcode, (_, icon) in best.items() if hexcode}


def match_things(icons: dict, source: Source, concepts: dict[str, dict]) -> dict[str, str]:
    """Bare hexcode -> icon name, for sets of icons for user interfaces: only exact CLDR names of things."""
    cldr = {slug(entry["caption"]): code for code, entry in concepts.items() if entry["group"] in GROUPS_OF_THINGS}
    names = [name for name in icons["icons"] if name.endswith(source.suffix)]
    stems = {name.removesuffix(source.suffix): name for name in names}
    return {cldr[stem]: name for stem, name in stems.items() if stem in cldr and stem not in source.left_out}


def icon_svg(icons: dict, name: str) -> str:
    """Complete SVG text of one icon of an Iconify set (aliases, flips and own boxes resolved)."""
    icon = dict(icons["icons"].get(name) or {})
    if not icon:
        alias = icons["aliases"][name]
        icon = {**icons["icons"][alias["parent"]], **alias}
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    body = icon["body"]
    if icon.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if icon.get("vFlip"):
        body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
    if icon.get("rotate"):
        body = f'<g transform="rotate({90 * icon["rotate"]} {left + width / 2} {top + height / 2})">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{RENDER_SIZE}" height="{RENDER_SIZE}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def collect(source: Source, folder: Path, concepts: dict, tables: list[dict[str, str]]) -> dict[str, str | Path]:
    """Bare hexcode -> SVG text or path of a raster file, for one source."""
    licence = read_json(folder / "package.json")["license"]
    expected = source.package_licence or source.licence
    if licence != expected:
        raise ValueError(f"{source.package} now says licence {licence!r}; expected {expected!r}.")
    if (folder / "assets").is_dir():
        files = {bare_hexcode(path.stem): path for path in sorted((folder / "assets").glob("*.webp"))}
        return {hexcode: path for hexcode, path in files.items() if hexcode in concepts}
    icons = read_json(folder / "icons.json")
    characters = read_json(folder / "chars.json")
    if source.suffix is not None:
        names = match_things(icons, source, concepts)
    elif characters:
        names = {bare_hexcode(hexcode): name for hexcode, name in characters.items()}
        names = {hexcode: name for hexcode, name in names.items() if hexcode in concepts}
    else:
        own_names = fxemoji_table(concepts) if source.style == "fxemoji" else dict.fromkeys(source.left_out, "")
        names = match_by_name(icons, tables, own_names)
    return {hexcode: icon_svg(icons, name) for hexcode, name in names.items()}


def render(drawing: str | Path) -> PILImage.Image:
    """Draw one SVG text or read one raster file: RGBA, `RENDER_SIZE` pixels square."""
    if isinstance(drawing, Path):
        return PILImage.open(drawing).convert("RGBA").resize((RENDER_SIZE, RENDER_SIZE), PILImage.Resampling.LANCZOS)
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=RENDER_SIZE, height=RENDER_SIZE, skip_system_fonts=True)
    return PILImage.open(io.BytesIO(bytes(png))).convert("RGBA")


def extent(image: PILImage.Image) -> float:
    """Longer side of what is drawn, as a ratio of the canvas; 0 for an empty drawing."""
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    return 0.0 if box is None else max(box[2] - box[0], box[3] - box[1]) / RENDER_SIZE


def encode(image: PILImage.Image, scale: float) -> bytes:
    """Scale about the centre, put on white, reduce to `SIZE` pixels and compress.

    `scale` is one number for a style, so that relative sizes (large, medium, small square) survive; a drawing that
    would leave the frame is moved or shrunk into it.
    """
    left, top, right, bottom = image.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    room = 1 - 2 * MARGIN_RATIO
    side = max(RENDER_SIZE / scale, (right - left) / room, (bottom - top) / room)
    margin = side * MARGIN_RATIO
    corner = []
    for low, high in ((left, right), (top, bottom)):
        start = (RENDER_SIZE - side) / 2
        corner.append(round(min(max(start, high + margin - side), low - margin)))
    side = round(side)
    image = image.crop((*corner, corner[0] + side, corner[1] + side))
    flat = PILImage.alpha_composite(PILImage.new("RGBA", image.size, "white"), image).convert("RGB")
    buffer = io.BytesIO()
    flat.resize((SIZE, SIZE), PILImage.Resampling.LANCZOS).save(buffer, "WEBP", quality=WEBP_QUALITY, method=6)
    return buffer.getvalue()


def draw_style(drawings: dict[str, str | Path], pool: ProcessPoolExecutor) -> dict[str, bytes]:
    """Draw one style; exact repeats under a second name (say, flags of dependencies) are dropped."""
    images = dict(zip(drawings, pool.map(render, drawings.values(), chunksize=32), strict=True))
    extents = {hexcode: extent(image) for hexcode, image in images.items()}
    scale = (1 - 2 * MARGIN_RATIO) / statistics.median(extents.values())
    images = {hexcode: image for hexcode, image in images.items() if extents[hexcode] > 0}
    seen: dict[str, str] = {}
    for hexcode, image in images.items():
        seen.setdefault(hashlib.sha256(image.tobytes()).hexdigest(), hexcode)
    kept = list(seen.values())
    encoded = pool.map(encode, [images[hexcode] for hexcode in kept], [scale] * len(kept), chunksize=32)
    return dict(zip(kept, encoded, strict=True))


def draw_lot(*key: str) -> float:
    """A fixed pseudo-random number in [0, 1) for a key: independent of order, platform and Python version."""
    return int.from_bytes(hashlib.sha256("/".join((SEED, *key)).encode()).digest()[:8], "big") / 2**64


def assign_splits(families: dict[str, set[str]], is_flag: dict[str, bool]) -> dict[tuple[str, str], str]:
    """Split of every (concept, family).

    Args:
        families (`dict[str, set[str]]`): Families that draw each concept.
        is_flag (`dict[str, bool]`): Flags are never held out as concepts: their drawings hardly differ over styles.

    Returns:
        `dict[tuple[str, str], str]`: Whole concepts are held out first; of the others, single (concept, family) pairs,
        and at least one family of each such concept stays in train.
    """
    eligible = [concept for concept, drawn in families.items() if len(drawn) >= 2 and not is_flag[concept]]
    eligible.sort(key=lambda concept: draw_lot("concept", concept))
    test = set(eligible[:NUM_TEST_CONCEPTS])
    validation = set(eligible[NUM_TEST_CONCEPTS : NUM_TEST_CONCEPTS + NUM_VALIDATION_CONCEPTS])
    splits = {}
    for concept, drawn in families.items():
        lots = {family: draw_lot("drawing", concept, family) for family in drawn}
        keep = max(lots, key=lots.get)
        for family, lot in lots.items():
            if concept in test or concept in validation:
                splits[concept, family] = "test_concepts" if concept in test else "validation"
            elif family == keep or lot >= TEST_DRAWING_RATIO + VALIDATION_DRAWING_RATIO:
                splits[concept, family] = "train"
            else:
                splits[concept, family] = "test_drawings" if lot < TEST_DRAWING_RATIO else "validation"
    return splits


def assign_all_splits(pictures: dict[str, dict[str, bytes]], is_flag: dict[str, bool]) -> dict[tuple[str, str], str]:
    """Split of every (concept, family) that has one. Styles for training only have no say in it: of concepts that are
    held out they draw nothing, and of flags, which are many already, neither."""
    sources = {source.style: source for source in SOURCES}
    families, added = defaultdict(set), set()
    for style, drawn in pictures.items():
        for concept in drawn:
            if not sources[style].train_only:
                families[concept].add(sources[style].family)
            elif not is_flag[concept]:
                added.add((concept, sources[style].family))
    splits = assign_splits(families, is_flag)
    held_out = set(families) - {concept for (concept, _), split in splits.items() if split == "train"}
    return {pair: "train" for pair in added if pair[0] not in held_out} | splits


def make_rows(concepts: dict[str, dict], pictures: dict[str, dict[str, bytes]]) -> list[dict]:
    """One row for each drawing, in CLDR order, with its split."""
    sources = {source.style: source for source in SOURCES}
    is_flag = {hexcode: concept["group"] == "flags" for hexcode, concept in concepts.items()}
    splits = assign_all_splits(pictures, is_flag)
    in_train = {concept for (concept, _), split in splits.items() if split == "train"}
    rows = []
    for hexcode, concept in concepts.items():
        for style, drawn in pictures.items():
            family = sources[style].family
            split = splits.get((hexcode, family))
            left_out = sources[style].train_only and (is_flag[hexcode] or split != "train")
            if hexcode not in drawn or split is None or left_out:
                continue
            rows.append(
                {
                    "image": {"bytes": drawn[hexcode], "path": f"{style}/{hexcode}.webp"},
                    **{key: concept[key] for key in ("caption", "tags", "group", "subgroup")},
                    "concept": hexcode,
                    "style": style,
                    "family": family,
                    "is_flag": is_flag[hexcode],
                    "split": split,
                    "concept_seen": hexcode in in_train,
                    "license": sources[style].licence,
                }
            )
    # At 64 pixels two drawings of a style can become one; then the held-out one is nothing new.
    trained = {row["image"]["bytes"] for row in rows if row["split"] == "train"}
    return [row for row in rows if row["split"] == "train" or row["image"]["bytes"] not in trained]


FEATURES = Features(
    {
        "image": Image(),
        "caption": Value("string"),
        "tags": List(Value("string")),
        **{key: Value("string") for key in ("group", "subgroup", "concept", "style", "family")},
        "is_flag": Value("bool"),
        "split": Value("string"),
        "concept_seen": Value("bool"),
        "license": Value("string"),
    }
)


def main(argv: list[str] | None = None) -> None:
    """Fetches, draws, splits and writes the parquet files; prints counts."""
    args = parse_args(argv)
    text_folder = fetch(TEXT_PACKAGE, args.cache_dir)
    folders = {source.style: fetch(source.package, args.cache_dir) for source in SOURCES}
    concepts = read_concepts(text_folder)
    tables = name_tables(concepts, text_folder, [folders[style] for style in ("noto", "twemoji", "fluent-flat")])
    pictures = {}
    with ProcessPoolExecutor(args.num_workers) as pool:
        for source in SOURCES:
            drawings = collect(source, folders[source.style], concepts, tables)
            ordered = {hexcode: drawings[hexcode] for hexcode in concepts if hexcode in drawings}
            pictures[source.style] = draw_style(ordered, pool)
            print(f"{source.style}: {len(ordered)} drawings, {len(pictures[source.style])} different", flush=True)

    rows = make_rows(concepts, pictures)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        part = [row for row in rows if row["split"] == split]
        Dataset.from_list(part, features=FEATURES).to_parquet(args.output_dir / f"{split}.parquet")
        print(f"{split}: {len(part)} rows, {sum(row['is_flag'] for row in part)} flags,", end=" ")
        print(f"{len({row['concept'] for row in part})} concepts, {dict(Counter(row['style'] for row in part))}")
    print(f"{sum(p.stat().st_size for p in args.output_dir.glob('*.parquet')) / 2**20:.2f} MiB in all")


if __name__ == "__main__":
    main()
