"""What one call of [`SeedPipeline`] has of its own, so that calls in several threads do not disturb each other."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback


# Names of tensors of Stable Diffusion by which diffusers' own callbacks ask, and what they are called here.
TENSOR_ALIASES = {"prompt_embeds": "encoder_hidden_states"}


class PipelineCallMixin:
    """
    The state of a call under the names that diffusers' pipelines have for it; a part of [`SeedPipeline`].

    A call works on a shallow copy of the pipeline: the models are the same objects, the scheduler is a copy. So no
    call changes the pipeline's scheduler, and a callback that sets `_guidance_scale` changes its own call only. The
    pipeline itself shows the values of the call that started last.
    """

    _guidance_scale: float | None = None
    _num_timesteps: int | None = None
    _interrupt: bool = False
    _called_on: Any = None

    @property
    def guidance_scale(self) -> float:
        """Classifier-free guidance of the call; before the first call, its default."""
        return self.config.guidance_scale if self._guidance_scale is None else self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the UNet is guided."""
        return self.guidance_scale > 1

    @property
    def num_timesteps(self) -> int | None:
        """Calls of the scheduler, which may be more than `num_inference_steps`; None before the first call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether `_interrupt` was set to end the call: by its callback, or on the pipeline, which ends every call."""
        return self._interrupt or (self._called_on is not None and self._called_on.interrupt)

    def _begin_call(self, guidance_scale: float, num_inference_steps: int):
        """A copy of the pipeline for one call, with timesteps set on a scheduler of its own."""
        _check_scheduler(self.scheduler)
        self._interrupt = False
        call = copy.copy(self)
        call._called_on = self
        call.scheduler = copy.deepcopy(self.scheduler)
        call.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        for pipeline in (self, call):
            pipeline._guidance_scale = guidance_scale
            pipeline._num_timesteps = len(call.scheduler.timesteps)
        return call


def _check_scheduler(scheduler: Any) -> None:
    """Raises `ValueError` for a scheduler of other models, such as those of flow matching."""
    missing = [name for name in ("init_noise_sigma", "scale_model_input", "step") if not hasattr(scheduler, name)]
    if missing:
        raise ValueError(
            f"`scheduler` is {type(scheduler).__name__}, which has no {missing}; allowed: one of Stable Diffusion's."
        )


def names_for_callback(callback: Callable | None, names: list[str] | tuple[str, ...]) -> list[str] | tuple[str, ...]:
    """The tensors that a callback gets: those that a callback object of diffusers names, else those of the call."""
    is_diffusers = isinstance(callback, PipelineCallback | MultiPipelineCallbacks)
    return list(dict.fromkeys(callback.tensor_inputs)) if is_diffusers else names


def run_callback(
    callback: Callable, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any], names: Any
) -> dict[str, Any]:
    """
    Calls a callback and takes over what it returns.

    Args:
        callback (`Callable`): Of the user.
        pipeline ([`SeedPipeline`]): The copy for this call.
        step (`int`): Number of the step.
        timestep (`torch.Tensor`): Of the step.
        tensors (`dict[str, torch.Tensor]`): All that a callback may change, the latents first.
        names (`Sequence[str]`): What this callback gets.

    Returns:
        `dict[str, torch.Tensor]`: `tensors`, with what was changed.

    Raises:
        ValueError: The callback returned a name that is unknown.
    """
    given = {name: tensors[TENSOR_ALIASES.get(name, name)] for name in names}
    returned = callback(pipeline, step, timestep, dict(given)) or {}
    allowed = [*tensors, *TENSOR_ALIASES]
    if unknown := [name for name in returned if name not in allowed]:
        raise ValueError(f"`callback_on_step_end` returned {unknown}; allowed: {allowed}.")
    changed = {name: tensor for name, tensor in returned.items() if name not in given or tensor is not given[name]}
    # an alias that was handed back as it came must not undo a change under the other name
    changed = {TENSOR_ALIASES.get(name, name): tensor for name, tensor in changed.items()}
    return tensors | {
        name: _all_rows(tensor, tensors[name], len(tensors["latents"])) for name, tensor in changed.items()
    }


def _all_rows(new: torch.Tensor | None, old: torch.Tensor | None, num_images: int) -> torch.Tensor | None:
    """diffusers' callbacks end guidance by `[-1:]`, the conditional half of one image; several have more."""
    if num_images == 1 or new is None or old is None or len(new) != 1 or not torch.equal(new, old[-1:]):
        return new
    return old[-num_images:]


def condition_rows(condition: list[torch.Tensor | None], num_images: int, is_guided: bool) -> tuple[bool, list[Any]]:
    """
    What the UNet gets in this step; a callback may have ended guidance, by the scale or by leaving one half.

    Args:
        condition (`list[torch.Tensor | None]`): `encoder_hidden_states` and `class_labels`.
        num_images (`int`): Images in the batch.
        is_guided (`bool`): Whether the guidance scale asks for both halves.

    Returns:
        `tuple[bool, list]`: Whether both halves are there and wanted, and their rows, or those of the conditional.

    Raises:
        ValueError: A callback left another number of rows.
    """
    rows = {len(tensor) for tensor in condition if tensor is not None}
    if not rows <= {num_images, 2 * num_images}:
        raise ValueError(
            f"`callback_on_step_end` left conditions of {sorted(rows)} rows; allowed: {num_images}, or "
            f"{2 * num_images} with the unconditional half first."
        )
    is_guided = is_guided and rows == {2 * num_images}
    return is_guided, condition if is_guided else [None if part is None else part[-num_images:] for part in condition]


def seed_noise_sampler(scheduler: Any, generator: Any, num_images: int) -> None:
    """DPM++ SDE draws its noise from a sampler of its own that takes no generator: it gets seeds by the generator."""
    if generator is None or getattr(scheduler, "noise_sampler_seed", 0) is not None:
        return
    generators = generator if isinstance(generator, list) else [generator] * num_images
    scheduler.noise_sampler_seed = [draw_seed(one) for one in generators]


def draw_seed(generator: torch.Generator) -> int:
    """A seed, by the next number of a generator."""
    return int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))


__all__ = ["PipelineCallMixin"]
