"""Which extra of this package brings what is not installed."""

# What each extra of setup.py brings, by the names that are imported; without a name, what the package itself needs.
EXTRAS = {
    "train": ("datasets", "pyarrow", "pandas", "matplotlib", "tensorboard"),
    "eval": ("datasets", "pyarrow", "pandas", "evaluate", "pycocoevalcap"),
    "serve": ("fastapi", "openai", "uvicorn"),
    "app": ("gradio",),
    "quantization": ("bitsandbytes",),
    "mini": ("gguf",),
    "dev": ("resvg_py", "pytest", "parameterized", "trl"),
    "": ("accelerate", "diffusers", "filelock", "peft"),
}


def describe_missing(error: ImportError, extra: str = "train") -> str | None:
    """
    Says in one line which package is missing, and how to get it.

    Args:
        error (`ImportError`): What an import raised.
        extra (`str`, defaults to `"train"`): Named where several extras bring the package.

    Returns:
        `str`: The line; `None` where the error is one of the code, of which a traceback says more.
    """
    if error.name is None:  # raised on purpose, with what is missing in its text
        return " ".join(str(error).split())
    package = error.name.partition(".")[0]
    found = [name for name in (extra, *EXTRAS) if package in EXTRAS.get(name, ())]
    if not isinstance(error, ModuleNotFoundError) or not found:
        return None
    wanted = f"[{found[0]}]" if found[0] else ""
    return (
        f'the package {package!r} is not installed; it comes with pip install "seed_hf{wanted}" '
        f'(in a checkout: pip install -e ".{wanted}").'
    )


__all__ = ["EXTRAS", "describe_missing"]
