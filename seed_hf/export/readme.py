"""The README of an export: shapes, normalisation, how to run it, and how many codes stay the same."""

from pathlib import Path
from typing import Any

from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .formats import SUFFIXES


# three lines each: (batch_size, 3, height, width) float32 in, (batch_size, number of codes) int64 out
RUNS = {
    "torch-export": """import torch
encode = torch.export.load("encode.pt2").module()
codes = encode(pixel_values)  # a tensor""",
    "onnx": """import onnxruntime
session = onnxruntime.InferenceSession("encode.onnx")
(codes,) = session.run(None, {"pixel_values": pixel_values})""",
    "openvino": """import openvino
encode = openvino.compile_model("encode.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
codes = encode(pixel_values)["codes"]  # without f32, some processors compute in bfloat16, which changes codes""",
}
INT8 = """
The weights of linear layers are stored in 8 bits, with one scale for each output channel. Everything is computed in
float32, so the files are smaller, but not faster.
"""
WEB = """
## In the browser

`index.html` encodes an image in the tab, without a server that computes. It loads onnxruntime-web from this folder:

```bash
npm install --ignore-scripts
python -m http.server --bind 127.0.0.1     # then open http://127.0.0.1:8000
```
"""
TEMPLATE = """# Image tokenizer for {format}

`encode` turns images into {num_codes} codes each, `decode` turns codes into generation embeddings. The batch may have
any size.

| file | input | output |
| --- | --- | --- |
| `encode{suffix}` | `pixel_values`, float32 (batch, 3, {height}, {width}) | `codes`, int64 (batch, {num_codes}) |
| `decode{suffix}` | `codes`, int64 (batch, {num_codes}) | `generation_embeds`, float32 {embeds} |

Codes go from 0 to {last}. Images with NaN or infinity get the code -1. Other codes must not be decoded: nothing checks
them.

## Run it

```python
{run}
```

## Pixel values

RGB, upright, transparency on white; resized to {width} x {height} without keeping the aspect, with Pillow's bicubic
filter; `(value / 255 - mean) / deviation`. `preprocessor_config.json` has the same for `SeedImageProcessor`.
Another resize changes codes.

```python
import numpy as np
from PIL import Image
# for an image without transparency
mean = {mean}
deviation = {deviation}
image = Image.open("image.png").convert("RGB").resize(({width}, {height}), Image.Resampling.BICUBIC)
pixels = (np.asarray(image) / 255 - mean) / deviation
pixel_values = pixels.transpose(2, 0, 1)[None].astype(np.float32)
```

## Equal codes

On the {num_images} drawings that come with seed_hf, {num_equal} of {total} codes ({share:.1%}) are those of the model
in torch, in float32 on the CPU.
{int8}{web}"""


def write_readme(
    folder: Path,
    model: SeedImageTokenizer,
    processor: SeedImageProcessor,
    format: str,
    int8: bool,
    web: bool,
    report: dict[str, Any],
) -> None:
    """
    Writes README.md.

    Args:
        folder (`Path`): Folder of the export.
        model ([`SeedImageTokenizer`]): What was exported.
        processor ([`SeedImageProcessor`]): Its image processor.
        format (`str`): A key of `RUNS`.
        int8 (`bool`): Whether weights are stored in 8 bits.
        web (`bool`): Whether the page is there.
        report (`dict`): `num_images`, `num_codes` and `num_equal` of [`export_encoder`].
    """
    config = model.config
    embeds = f"(batch, {config.num_generation_tokens}, {config.generation_dim})"
    if config.generation_head != "text":
        embeds = f"(batch, {config.generation_dim})"
    text = TEMPLATE.format(
        format=format,
        suffix=SUFFIXES[format],
        num_codes=config.num_query_tokens,
        last=config.codebook_size - 1,
        embeds=embeds,
        run=RUNS[format],
        height=processor.size["height"],
        width=processor.size["width"],
        mean=[round(value, 8) for value in processor.image_mean],
        deviation=[round(value, 8) for value in processor.image_std],
        num_images=report["num_images"],
        num_equal=report["num_equal"],
        total=report["num_codes"],
        share=report["num_equal"] / report["num_codes"],
        int8=INT8 if int8 else "",
        web=WEB if web else "",
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


__all__ = ["RUNS", "write_readme"]
