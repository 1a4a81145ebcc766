"""One optimizer update over all micro-batches and processes, and what is checked about it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from ..data.seeds import derive_seed, seed_everything
from .arguments import RunArguments
from .checkpoint import describe_newest, refuse_nan, trainable_state
from .optimizer import learning_rate_at


logger = logging.get_logger(__name__)

# metrics of which a step's number is the sum over micro-batches and processes; that of the others is the mean
SUMMED_METRICS = ("tokens",)


class OptimizerUpdate:
    """Makes optimizer updates: seeds, learning rate, accumulation, clipping, metrics, and checks on all of them.

    Args:
        args ([`~seed_hf.trainer.arguments.RunArguments`]): Schedule, seed, and the norm to clip to.
        accelerator (`Accelerator`): That of the run.
        model (`nn.Module`): The prepared model.
        unwrapped_model (`nn.Module`): The model as it was passed to the run.
        optimizer (`torch.optim.Optimizer`): The prepared optimizer.
        frozen (`Sequence[nn.Module]`): Modules that stay in eval mode; see [`~seed_hf.trainer.TrainingRun`].
        also_save (`Sequence[str]`): Prefixes of parameters that may change without a gradient.
    """

    def __init__(
        self,
        args: RunArguments,
        accelerator: Accelerator,
        model: nn.Module,
        unwrapped_model: nn.Module,
        optimizer: torch.optim.Optimizer,
        frozen: Sequence[nn.Module] = (),
        also_save: Sequence[str] = (),
    ):
        self.args, self.accelerator, self.optimizer = args, accelerator, optimizer
        self.model, self.unwrapped_model = model, unwrapped_model
        self.frozen, self.also_save = frozen, also_save
        self.parameters = [parameter for parameter in unwrapped_model.parameters() if parameter.requires_grad]
        self._frozen_versions = self._versions_of_frozen()
        self._checked = False

    def __call__(
        self,
        step: int,
        micro_batches: Sequence[Any],
        compute_loss: Callable[[Any], tuple[torch.Tensor, Mapping[str, Any]]],
        count_targets: Callable[[Any], float] | None = None,
        look_ahead: Callable[[Sequence[Any], Callable[[int], None]], Sequence[Any]] | None = None,
    ) -> dict[str, float]:
        """Makes one update; see [`~seed_hf.trainer.TrainingRun.fit`] for the other arguments.

        Args:
            step (`int`): Number of updates made before.

        Returns:
            `dict[str, float]`: The metrics of the step, over micro-batches and processes.

        Raises:
            FloatingPointError: If loss or gradient are NaN or infinite; nothing has been updated then.
        """
        self.model.train()
        for module in self.frozen:
            module.eval()
        learning_rate = learning_rate_at(step, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["multiplier"]
        if look_ahead and len(micro_batches) > 1:
            micro_batches = look_ahead(micro_batches, lambda index: self._seed(step, index))

        sums = self._accumulate(step, micro_batches, compute_loss, count_targets)
        means, grad_norm = self._read_metrics(sums, self._clip_gradients())
        self._check_finite("loss", means["loss"], step)
        self._check_norm(grad_norm, step)
        means |= {"learning_rate": learning_rate, **({"grad_norm": grad_norm} if math.isfinite(grad_norm) else {})}
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self._checked:
            self._check_nothing_else_changed()
            self._checked = True
        return means

    def _accumulate(self, step: int, micro_batches, compute_loss, count_targets) -> dict[str, torch.Tensor]:
        """Gradients of all micro-batches, and the sums and counts of their metrics."""
        sums: dict[str, torch.Tensor] = {}
        weights = self._weights(micro_batches, count_targets)
        for index, (batch, weight) in enumerate(zip(micro_batches, weights, strict=True)):
            self._seed(step, index)
            with self.accelerator.accumulate(self.model):
                with self.accelerator.autocast():
                    loss, metrics = compute_loss(send_to_device(batch, self.accelerator.device, non_blocking=True))
                    loss = loss * weight
                self.accelerator.backward(loss)
            self._add_metrics(sums, {"loss": loss, **metrics})
        return sums

    def _seed(self, step: int, index: int) -> None:
        """Seeds whatever is random in a micro-batch by its place in the global batch, whoever computes it.

        So a run goes on alike, dropout included, where accumulation stands in for processes.
        """
        place = index * self.accelerator.num_processes + self.accelerator.process_index
        seed_everything(derive_seed(self.args.seed, step, place))

    def _weights(self, micro_batches: Sequence[Any], count_targets: Callable | None) -> list[float]:
        """Factors on the mean losses of micro-batches that make their mean the mean over all targets."""
        if count_targets is None:
            return [1.0] * len(micro_batches)
        counts = [float(count_targets(batch)) for batch in micro_batches]
        total = sum(counts)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(torch.tensor(total, device=self.accelerator.device)).item()
        num_micro_batches = len(micro_batches) * self.accelerator.num_processes
        return [count * num_micro_batches / max(total, 1.0) for count in counts]

    def _add_metrics(self, sums: dict[str, torch.Tensor], metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.accelerator.device).detach()
            # A NaN loss must show; a NaN elsewhere means that this batch has nothing to say.
            counts = torch.ones_like(value) if name == "loss" else (~value.isnan()).float()
            value = value if name == "loss" else value.nan_to_num()
            sums[name] = sums.get(name, 0) + torch.stack([value, counts])

    def _read_metrics(self, sums: dict[str, torch.Tensor], norm: torch.Tensor) -> tuple[dict[str, float], float]:
        """Means over micro-batches and processes, and the norm of the gradient: the one time that a step waits for its
        device."""
        names = sorted(sums)
        table = self.accelerator.reduce(torch.stack([sums[name] for name in names]))
        *table, (norm, _) = torch.cat([table, norm.to(table).expand(1, 2)]).tolist()
        counted = {name: row for name, row in zip(names, table, strict=True) if row[1]}
        means = {name: total if name in SUMMED_METRICS else total / count for name, (total, count) in counted.items()}
        return means, norm

    def _clip_gradients(self) -> torch.Tensor:
        """Clips the gradient, and returns its norm before clipping."""
        max_norm = self.args.max_grad_norm or math.inf
        if self.accelerator.distributed_type == DistributedType.FSDP:
            # Accelerate's own unscales twice where some weights are frozen, which the scaler of fp16 refuses
            self.accelerator.unscale_gradients()
            norm = nn.utils.clip_grad_norm_(self.parameters, max_norm)
        else:
            norm = self.accelerator.clip_grad_norm_(self.parameters, max_norm)
        norm = (norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)).detach()
        if not self._checked:
            self._check_gradients(norm)
        return norm

    def _check_norm(self, norm: float, step: int) -> None:
        scaler = self.accelerator.scaler
        if scaler is None:  # With one, an infinite gradient is normal: the update is skipped and the scale halved.
            self._check_finite("grad_norm", norm, step)
        elif scaler.get_scale() < 1:
            raise FloatingPointError(f"The fp16 loss scale fell below 1 at step {step + 1}: gradients overflow.")

    def _check_gradients(self, norm: torch.Tensor) -> None:
        """Once a run, catches two silent mistakes: weights that do not learn, processes that learn apart."""
        named = self.unwrapped_model.named_parameters()
        idle = [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]
        # DeepSpeed keeps gradients elsewhere
        if idle and self.accelerator.distributed_type != DistributedType.DEEPSPEED:
            logger.warning(f"{len(idle)} trainable parameters got no gradient in the first update: {idle[:8]} ...")
        norms = self.accelerator.gather(norm.reshape(1).to(self.accelerator.device))
        if not torch.allclose(norms, norms[:1], equal_nan=True):
            raise RuntimeError(
                f"Gradients differ between processes (norms {norms.tolist()}): compute_loss must call run.model, not "
                "the model that was passed to TrainingRun, nor a part of it."
            )

    def _check_nothing_else_changed(self) -> None:
        """Once a run, catches a third: weights that change without a gradient and would be missing in checkpoints."""
        state = trainable_state(self.unwrapped_model, self.frozen, self.also_save)
        versions = self._versions_of_frozen()
        changed = [name for name, version in versions.items() if version != self._frozen_versions[name]]
        if lost := [name for name in changed if name not in state]:
            raise ValueError(
                f"also_save={self.also_save} lacks {lost}: changed by training although without gradient."
            )

    def _versions_of_frozen(self) -> dict[str, int]:
        # torch counts the in-place changes of every tensor.
        named = self.unwrapped_model.named_parameters()
        return {name: parameter._version for name, parameter in named if not parameter.requires_grad}

    def _check_finite(self, name: str, value: float, step: int) -> None:
        if math.isfinite(value):
            return
        problem = f"{name} is {value} at step {step + 1}; training stopped before this update"
        state = trainable_state(self.unwrapped_model, self.frozen, self.also_save)
        refuse_nan(state, f": {problem}", self.args.output_dir)
        raise FloatingPointError(
            f"{problem}, with no NaN in the weights; {describe_newest(self.args.output_dir)}. "
            "Try a lower learning_rate, or max_grad_norm=1."
        )
