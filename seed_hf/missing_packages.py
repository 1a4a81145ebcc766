"""Says which extra of this package brings a package that is not installed."""

# What each extra of setup.py brings, by the names that are imported; under the empty name, what the package needs.
EXTRAS = {
    "train": ("datasets", "pyarrow", "pandas", "matplotlib", "tensorboard"),
    "eval": ("datasets", "pyarrow", "pandas", "evaluate", "pycocoevalcap"),
    "serve": ("fastapi", "openai", "prometheus_client", "python_multipart", "uvicorn"),
    "app": ("gradio",),
    "cluster": ("datatrove",),
    "quantization": ("bitsandbytes",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "mini": ("gguf",),
    "dev": ("resvg_py", "pytest", "parameterized", "trl", "mlinter", "llguidance"),
    "": ("accelerate", "diffusers", "filelock", "peft", "typer"),
}


def describe_missing(error: ImportError, extra: str = "train") -> str | None:
    """
    Says in one line which package is missing, and how to get it.

    Args:
        error (`ImportError`): What an import raised.
        extra (`str`, defaults to `"train"`): The extra to name where several bring the package.

    Returns:
        `str`: The line; `None` for an error in the code, about which a traceback says more.
    """
    if error.name is None:  # raised on purpose, with what is missing in its text
        return " ".join(str(error).split())
    package = error.name.partition(".")[0]
    extras = [name for name in (extra, *EXTRAS) if package in EXTRAS.get(name, ())]
    if not isinstance(error, ModuleNotFoundError) or not extras:
        return None
    brackets = f"[{extras[0]}]" if extras[0] else ""
    return (
        f'the package {package!r} is not installed; it comes with pip install "seed_hf{brackets}" '
        f'(in a checkout: pip install -e ".{brackets}").'
    )


__all__ = ["EXTRAS", "describe_missing"]
