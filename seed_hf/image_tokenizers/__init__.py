"""Image tokenizers of SEED and of other libraries behind one protocol, so that the same tools take them all."""

from .adapters import (
    ChameleonAdapter,
    Emu3Adapter,
    GlmImageAdapter,
    GlmImageEncoder,
    GridAdapter,
    JanusAdapter,
    VQModelAdapter,
)
from .loading import ADAPTERS, SEED_TYPE, ImageTokenizerFiles, find_image_tokenizer_files, load_image_tokenizer
from .protocol import (
    ImageTokenizer,
    SeedAdapter,
    as_image_tokenizer,
    decode_images,
    encode_images,
    images_at_once,
    in_dtype,
    seed_model,
)


__all__ = [
    "ADAPTERS",
    "SEED_TYPE",
    "ChameleonAdapter",
    "Emu3Adapter",
    "GlmImageAdapter",
    "GlmImageEncoder",
    "GridAdapter",
    "ImageTokenizer",
    "ImageTokenizerFiles",
    "JanusAdapter",
    "SeedAdapter",
    "VQModelAdapter",
    "as_image_tokenizer",
    "decode_images",
    "encode_images",
    "find_image_tokenizer_files",
    "images_at_once",
    "in_dtype",
    "load_image_tokenizer",
    "seed_model",
]
