"""Draws docs/architecture.svg: the parts of seed-mini, with the sizes that its configuration files state."""

import json
from pathlib import Path
from xml.sax.saxutils import escape


MINI = Path(__file__).parents[1] / "seed_hf" / "mini"
FIGURE = Path(__file__).with_name("architecture.svg")
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 1080, 490, 200, 86
COLUMNS, ROWS = (20, 260, 500, 740), (48, 206, 364)
CODES_X, CODES_WIDTH = 980, 80
STYLE = """
text { font-family: Helvetica, Arial, sans-serif; font-size: 12.5px; fill: #1f2933; text-anchor: middle }
.title { font-weight: bold }
.lane { font-size: 15px; font-weight: bold; text-anchor: start }
.file { font-family: Menlo, Consolas, monospace; font-size: 10px; fill: #52606d }
rect { stroke: #52606d; stroke-width: 1.2 }
.part { fill: #e3eefb }
.data { fill: #fdf3d8 }
.code { fill: #f7c948; stroke-width: 0.8 }
path { stroke: #52606d; stroke-width: 1.6; fill: none; marker-end: url(#head) }
.both { marker-start: url(#head) }
"""


def read_sizes() -> dict:
    """The fields of seed-mini's configurations that the figure shows."""

    def config(path: str) -> dict:
        return json.loads((MINI / path).read_text(encoding="utf-8"))

    tokenizer, pipeline = config("pipeline/image_tokenizer/config.json"), config("pipeline/model_index.json")
    unet, vae = config("pipeline/unet/config.json"), config("pipeline/vae/config.json")
    return {
        "tokenizer": tokenizer,
        "vision": tokenizer["vision_config"],
        "qformer": tokenizer["qformer_config"],
        "decoder": tokenizer["decoder_config"],
        "reverse": tokenizer["reverse_qformer_config"],
        "pipeline": pipeline,
        "unet": unet,
        "vae": vae,
        "seed": config("language_model/config.json"),
    }


def boxes(sizes: dict) -> list[tuple[int, int, str, str, list[str], str]]:
    """Column, row, class, title, lines and file of each box."""
    tokenizer, vision, qformer, seed = (sizes[name] for name in ("tokenizer", "vision", "qformer", "seed"))
    unet, vae, decoder, reverse = (sizes[name] for name in ("unet", "vae", "decoder", "reverse"))
    language_model = seed["text_config"]
    side, num_queries = vision["image_size"], tokenizer["num_query_tokens"]
    num_features = (side // vision["patch_size"]) ** 2 + 1
    codebook = tokenizer["codebook_size"]
    choices = codebook // num_queries if tokenizer["codebook_per_query"] else codebook
    drawn = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    stem = "CNN stem and ViT" if tokenizer["use_conv_stem"] else "ViT"
    num_special = seed["vocab_size"] - seed["first_image_token_id"] - codebook
    latents = f"{unet['in_channels']} x {unet['sample_size']} x {unet['sample_size']}"
    widths = ", ".join(map(str, unet["block_out_channels"]))
    guidance, num_steps = (sizes["pipeline"][name] for name in ("guidance_scale", "num_inference_steps"))
    return [
        (0, 0, "data", "Image", [f"RGB, squashed to {side} x {side}"], "image_processing_seed.py"),
        (1, 0, "part", stem, [f"{layers(vision)}", f"{num_features} features"],
         "modeling_seed_conv_stem.py" if tokenizer["use_conv_stem"] else "Blip2VisionModel of transformers"),
        (2, 0, "part", "Causal Q-Former", [layers(qformer), f"{num_queries} causal embeddings"],
         "modeling_seed_qformer.py"),
        (3, 0, "part", "Quantizer", [f"{codebook:,} vectors of width {tokenizer['code_dim']}",
                                     f"{choices:,} for each query"], "modeling_seed_quantizer.py"),
        (0, 1, "data", "Text", ["captions, answers, prompts"], "tokenization_seed.py"),
        (1, 1, "part", "Processor", [f"{seed['first_image_token_id']:,} text tokens,",
                                     f"{codebook:,} image tokens, {num_special} more"], "processing_seed.py"),
        (2, 1, "part", "Causal language model", [f"{language_model['model_type']}, {layers(language_model)}",
                                                 f"vocabulary of {seed['vocab_size']:,}"], "modeling_seed.py"),
        (3, 1, "part", "Image span", [f"<img>, {num_queries} tokens, </img>", "one token for each code"],
         "image_tokens_seed.py"),
        (3, 2, "part", "Reverse Q-Former", [f"{decoder['num_hidden_layers']} + {layers(reverse)}",
         f"{tokenizer['num_generation_tokens']} embedding of width {tokenizer['generation_dim']}"],
         "modeling_seed_detokenizer.py"),
        (2, 2, "part", "UNet", [f"widths {widths}", f"{num_steps} steps, guidance {guidance:g}"], "pipeline_seed.py"),
        (1, 2, "part", "VAE decoder", [f"latents {latents}"], "AutoencoderKL of diffusers"),
        (0, 2, "data", "Picture", [f"RGB, {drawn} x {drawn}"], "pipeline_seed.py"),
    ]  # fmt: skip


def layers(config: dict) -> str:
    """How deep and wide a transformer is."""
    return f"{config['num_hidden_layers']} layers of width {config['hidden_size']}"


def box(column: int, row: int, kind: str, title: str, lines: list[str], file: str) -> str:
    """A rectangle with its title, its lines and, below it, the file."""
    x, y = COLUMNS[column], ROWS[row]
    middle, top = x + BOX_WIDTH // 2, y + BOX_HEIGHT // 2 - 9 * len(lines) + 5
    parts = [f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>']
    parts.append(label(middle, top, title, "title"))
    parts += [label(middle, top + 19 * number, line) for number, line in enumerate(lines, start=1)]
    return "\n".join([*parts, label(middle, y + BOX_HEIGHT + 15, file, "file")])


def label(x: int, y: int, content: str, kind: str = "") -> str:
    """A line of text."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x}" y="{y}">{escape(content)}</text>'


def arrows() -> list[str]:
    """Between neighbours: to the right where images are read, both ways for text, to the left where they are drawn."""
    paths = []
    for x, right in zip(COLUMNS, (*COLUMNS[1:], CODES_X), strict=True):
        left, right = x + BOX_WIDTH + 6, right - 6
        for y, kind, ends in zip(ROWS, ("one-way", "both", "one-way"), ("LR", "LR", "RL"), strict=True):
            start, end = (left, right) if ends == "LR" else (right, left)
            paths.append(f'<path class="{kind}" d="M{start} {y + BOX_HEIGHT // 2} H{end}"/>')
    return paths


def codes(num_codes: int) -> list[str]:
    """The column at the right: one square for each code of an image."""
    top, bottom, per_row, side = ROWS[0], ROWS[2] + BOX_HEIGHT, 2, 18
    parts = [f'<rect class="data" x="{CODES_X}" y="{top}" width="{CODES_WIDTH}" height="{bottom - top}" rx="8"/>']
    parts.append(label(CODES_X + CODES_WIDTH // 2, top + 22, f"{num_codes} codes", "title"))
    step = (bottom - top - 42) / (num_codes / per_row)
    for number in range(num_codes):
        x = CODES_X + CODES_WIDTH / 2 + (4 if number % per_row else -side - 4)
        y = top + 36 + step * (number // per_row)
        parts.append(f'<rect class="code" x="{x:g}" y="{y:g}" width="{side}" height="{side}" rx="3"/>')
    return parts


def draw() -> str:
    """The whole figure."""
    sizes = read_sizes()
    lanes = ("Read: an image becomes codes", "Caption, answer, write: codes are words", "Draw: codes become a picture")
    head = '<path d="M0 0 L8 4 L0 8 z" style="fill: #52606d; stroke: none; marker-end: none"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">',
            f"<title>seed-mini: its parts and their sizes</title>\n<style>{STYLE}</style>",
            f'<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" '
            f'orient="auto-start-reverse">{head}</marker></defs>',
            f'<rect x="0" y="0" width="{WIDTH}" height="{HEIGHT}" style="fill: #ffffff; stroke: none"/>',
            *(label(COLUMNS[0], y - 16, lane, "lane") for y, lane in zip(ROWS, lanes, strict=True)),
            *(box(*values) for values in boxes(sizes)),
            *arrows(),
            *codes(sizes["tokenizer"]["num_query_tokens"]),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    FIGURE.write_text(draw(), encoding="utf-8")
