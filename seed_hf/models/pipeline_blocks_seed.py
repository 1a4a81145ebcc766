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
"""
The steps of [`SeedPipeline`] as modular blocks of diffusers: codes of an image or for a prompt, then the picture.

```python
pipeline = SeedBlocks().init_pipeline()
pipeline.update_components(**SeedPipeline.from_pretrained(folder).components)
images = pipeline(prompt="a red apple", output="images")
```
"""

import inspect
from typing import Any

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from diffusers.modular_pipelines import (
    AutoPipelineBlocks,
    ComponentSpec,
    ConfigSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    SequentialPipelineBlocks,
)
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from transformers import PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from .modeling_seed_empty_prompt import SeedEmptyPrompt
from .pipeline_seed import SeedPipeline


GENERATOR = InputParam("generator", torch.Generator, description="Makes the call repeatable; a list has one for each.")
CODES = OutputParam("codes", torch.LongTensor, description="Codes of shape `(batch_size, num_query_tokens)`.")
IMAGE_PARTS = {"image_tokenizer": PreTrainedModel, "image_processor": BaseImageProcessor}
WRITING_PARTS = {"language_model": PreTrainedModel, "processor": ProcessorMixin}
DRAWING_PARTS = {
    **IMAGE_PARTS,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "scheduler": SchedulerMixin,
    "empty_prompt": SeedEmptyPrompt,
    "image_normalizer": StableUnCLIPImageNormalizer,
    "image_noising_scheduler": SchedulerMixin,
}
# What the pipeline's call takes beside the codes and what belongs to the other steps.
DRAWING_SETTINGS = (
    *("negative_codes", "guidance_scale", "num_inference_steps", "timesteps", "sigmas", "num_images_per_prompt"),
    *("noise_level", "eta", "generator", "latents", "height", "width", "output_type"),
)


class SeedBlock(ModularPipelineBlocks):
    """A step that a [`SeedPipeline`] around the step's components does."""

    model_name = "seed"
    parts: dict[str, type] = {}

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The components that this step works with."""
        return [ComponentSpec(name, part) for name, part in self.parts.items()]

    def pipeline(self, components: Any, **settings) -> SeedPipeline:
        """
        Args:
            components (`ModularPipeline`): What holds the components.
            settings: Defaults of calls, as in [`SeedPipeline`].

        Returns:
            [`SeedPipeline`]: The pipeline without the parts that this step does not need.
        """
        required = dict.fromkeys(name for name in DRAWING_PARTS if name not in SeedPipeline._optional_components)
        return SeedPipeline(**required | {name: getattr(components, name) for name in self.parts} | settings)


class SeedReadStep(SeedBlock):
    """Image to codes."""

    description = "Encodes images into codes."
    parts = IMAGE_PARTS
    inputs = [InputParam("image", required=True, description="One image or a list.")]
    intermediate_outputs = [CODES]

    def __call__(self, components, state):
        """Encodes the images."""
        block = self.get_block_state(state)
        block.codes = self.pipeline(components).encode_image(block.image)
        self.set_block_state(state, block)
        return components, state


class SeedWriteStep(SeedBlock):
    """Prompt to codes."""

    description = "Lets the language model write codes for prompts."
    parts = WRITING_PARTS
    inputs = [
        InputParam("prompt", str, required=True, description="A text or a list of texts."),
        GENERATOR,
        InputParam("num_images_per_prompt", int, default=1, description="Pictures that the same codes will give."),
        InputParam("generation_kwargs", dict, default={}, description="For `language_model.generate`."),
    ]
    intermediate_outputs = [CODES]

    def __call__(self, components, state):
        """Writes the codes."""
        block = self.get_block_state(state)
        settings = (block.num_images_per_prompt, block.generator, block.generation_kwargs)
        block.codes = self.pipeline(components)._encode_prompts(block.prompt, *settings)
        self.set_block_state(state, block)
        return components, state


class SeedCodesStep(AutoPipelineBlocks):
    """Codes for a prompt or of an image; where codes are given, neither."""

    block_classes = [SeedWriteStep, SeedReadStep]
    block_names = ["write", "read"]
    block_trigger_inputs = ["prompt", "image"]


class SeedDrawStep(SeedBlock):
    """Codes to pictures."""

    description = "Decodes codes and draws."
    parts = DRAWING_PARTS
    expected_configs = [ConfigSpec("guidance_scale", 7.5), ConfigSpec("num_inference_steps", 50)]
    intermediate_outputs = [OutputParam("images", list, description="The pictures, in the form of `output_type`.")]

    @property
    def inputs(self) -> list[InputParam]:
        """The codes, and the settings of the pipeline's call with their defaults."""
        defaults = {name: value.default for name, value in inspect.signature(SeedPipeline.__call__).parameters.items()}
        codes = InputParam("codes", torch.LongTensor, required=True, description=CODES.description)
        settings = [InputParam(name, default=defaults[name]) for name in DRAWING_SETTINGS if name != "generator"]
        return [codes, GENERATOR, *settings]

    def __call__(self, components, state):
        """Draws the pictures."""
        block = self.get_block_state(state)
        defaults = {config.name: components.config[config.name] for config in self.expected_configs}
        settings = {name: getattr(block, name) for name in DRAWING_SETTINGS}
        block.images = self.pipeline(components, **defaults)(codes=block.codes, **settings).images
        self.set_block_state(state, block)
        return components, state


class SeedBlocks(SequentialPipelineBlocks):
    """From an image, a prompt or codes to pictures."""

    block_classes = [SeedCodesStep, SeedDrawStep]
    block_names = ["codes", "draw"]


__all__ = ["SeedBlocks", "SeedCodesStep", "SeedDrawStep", "SeedReadStep", "SeedWriteStep"]
