# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Saving a pipeline with custom components so that it loads with and without the package that defines them."""

import importlib
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

from diffusers import pipelines as diffusers_pipelines
from huggingface_hub import snapshot_download
from transformers import PreTrainedModel


COMPONENTS_MODULE = "pipeline_components_seed"
PICKLED_WEIGHTS = ["*.bin", "*.ckpt", "*.msgpack", "*.pt", "*.pth"]


class PortablePipelineMixin:
    """
    Put before `DiffusionPipeline`: custom components are recorded by the bare name of their file, which is copied
    beside them with the files that it imports.

    diffusers records the full module path, which loads only where that module was imported before. With this form
    `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` needs no package, and where the package is
    installed its own classes are taken.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """
        Loads a pipeline as diffusers does, in float32 unless a dtype is given.

        diffusers alone would leave components of transformers in the dtype of their file, and half precision changes
        codes. Quantized components keep their weights as they are.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or repository id.
            kwargs: As in `DiffusionPipeline.from_pretrained`; components can be passed by name.

        Returns:
            The pipeline.
        """
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            for name, component in pipeline.components.items():
                is_quantized = getattr(component, "is_quantized", False)
                if isinstance(component, PreTrainedModel) and name not in kwargs and not is_quantized:
                    component.float()
        return pipeline

    def save_config(self, save_directory, push_to_hub: bool = False, **kwargs):
        """Writes the portable index and the code files that it names; arguments as in diffusers."""
        super().save_config(save_directory, **kwargs)
        folder = Path(save_directory)
        index_file = folder / self.config_name
        index = json.loads(index_file.read_text(encoding="utf-8"))
        index["_class_name"] = [_copy_code(type(self).__module__, folder), type(self).__name__]
        index.pop("_name_or_path", None)  # where the pipeline came from: nobody else's business
        for name, value in index.items():
            if _is_custom_component(value) and name != "_class_name":
                index[name] = [_copy_code(value[0], folder / name), value[1]]
                # transformers, given the component's folder as `subfolder`, looks for code at the top only
                _copy_code(value[0], folder)
        index_file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load_config(cls, *args, **kwargs):
        """Reads the index and puts the package's own classes in place of the bare file names."""
        loaded = super().load_config(*args, **kwargs)
        index = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(index.get("_class_name"), list):
            index["_class_name"] = index["_class_name"][1]
        for name, value in index.items():
            if _is_custom_component(value):
                index[name] = _package_entry(value)
        return loaded

    @classmethod
    def download(cls, pretrained_model_name, **kwargs) -> str:
        """
        Fetches a repository; folders of components that the caller passes, and pickled weights, are left out.

        Args:
            pretrained_model_name (`str`): Repository id.
            kwargs: Those of `from_pretrained`.

        Returns:
            `str`: The local folder.
        """
        names = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        passed = [f"{name}/*" for name in inspect.signature(cls.__init__).parameters if name in kwargs]
        return snapshot_download(pretrained_model_name, ignore_patterns=PICKLED_WEIGHTS + passed, **options)


def _is_custom_component(value) -> bool:
    """Whether an entry of the index names a class outside of diffusers and transformers."""
    is_entry = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)
    return is_entry and value[0] not in ("diffusers", "transformers") and not hasattr(diffusers_pipelines, value[0])


def _package_entry(entry: list[str]) -> list[str]:
    """The entry of the index with the package's class, where this file is a part of the package that has it."""
    if not Path(__file__).with_name(f"{COMPONENTS_MODULE}.py").is_file():
        return entry
    module = importlib.import_module(f"{__package__}.{COMPONENTS_MODULE}")
    return [module.__name__, entry[1]] if hasattr(module, entry[1]) else entry


def _copy_code(module_name: str, folder: Path) -> str:
    """Copies a module's file and the siblings it imports, all levels, into a folder; returns the file's stem."""
    source = Path(sys.modules[module_name].__file__)
    folder.mkdir(parents=True, exist_ok=True)
    pending, copied = [source.stem], []
    while pending:
        path = source.with_name(f"{pending.pop()}.py")
        if path.stem not in copied:
            copied.append(path.stem)
            shutil.copyfile(path, folder / path.name)
            pending += _imported_siblings(path)
    entry = folder / source.name
    if deeper := sorted(set(copied[1:]) - set(_imported_siblings(entry))):
        lines = [f"from .{stem} import __name__ as _  # noqa: E402, F401" for stem in deeper]
        note = "# diffusers takes along only the files that this one imports itself, not those that they import."
        with entry.open("a", encoding="utf-8") as file:
            file.write("\n".join(["\n", note, *lines, ""]))
    return source.stem


def _imported_siblings(path: Path) -> list[str]:
    """The stems of the files beside it that a module imports."""
    return re.findall(r"^\s*from\s+\.(\w+)\s+import", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
