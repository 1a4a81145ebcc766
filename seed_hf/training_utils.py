"""The training loop that every script under `training/` shares: arguments, schedule, optimizer, steps, resume, logs.

A step is one optimizer update, everywhere. Whatever is random at a step (data order, augmentation, dropout) is derived
from (seed, step, process), so a checkpoint needs no random states and a resumed run repeats the run it came from.

Example of a whole script:
    ```python
    import argparse

    import torch
    from transformers import set_seed

    from seed_hf.training_utils import TrainingRun, add_training_arguments


    def main(argv=None):
        parser = argparse.ArgumentParser()
        add_training_arguments(parser)
        parser.set_defaults(learning_rate=1e-2, max_steps=20)
        args = parser.parse_args(argv)

        set_seed(args.seed)
        model = torch.nn.Linear(4, 1)
        run = TrainingRun(args, model)
        dataset = [(torch.ones(4) * i, torch.ones(1) * i) for i in range(64)]

        def compute_loss(batch):
            inputs, targets = batch
            loss = torch.nn.functional.mse_loss(run.model(inputs), targets)
            return loss, {"mse": loss}

        run.fit(run.make_batches(dataset), compute_loss)
    ```
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn
from tqdm.auto import tqdm
from transformers.utils import logging

from .training_arguments import add_training_arguments, check_training_arguments
from .training_checkpoint import (
    check_same_run,
    find_checkpoint,
    load_model_state,
    load_training_state,
    package_versions,
    save_checkpoint,
    trainable_state,
)
from .training_data import derive_seed, make_batches, seed_everything
from .training_launch import call_on_signals, make_accelerator
from .training_metrics import MetricsLog, plot_metrics
from .training_optimizer import learning_rate_at, make_parameter_groups


__all__ = ["TrainingRun", "add_training_arguments", "make_accelerator", "plot_metrics"]

logger = logging.get_logger(__name__)


class TrainingRun:
    """One training run: owns the accelerator, the optimizer, the step counter, checkpoints and metrics.

    Constructing it resumes: afterwards `step` says where the run stands. Call `transformers.set_seed(args.seed)`
    before building the model, so that a run is repeatable from its first weights on.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].
        model (`nn.Module`): holds all trainable parameters (those with `requires_grad`). The loss must call the
            prepared `run.model`, once per micro-batch, or several processes would not share gradients.
        frozen (`Sequence[nn.Module]`): modules that only help (also parts of `model`): moved to the device, in eval
            mode, without gradients, neither prepared nor saved in checkpoints. Call them under `torch.no_grad()`.
        learning_rate_multipliers (`Mapping[str, float]`, *optional*): see [`make_parameter_groups`].
        also_save (`Sequence[str]`): prefixes of parameters without gradient that training changes nevertheless; see
            [`~seed_hf.training_checkpoint.trainable_state`].
        ema_decay (`float`, *optional*): keep a moving average of the trainable parameters with this decay; use it
            with [`TrainingRun.averaged_weights`].

    Attributes:
        model (`nn.Module`): the prepared model; `unwrapped_model` is the original.
        accelerator (`Accelerator`): precision, device and processes.
        step (`int`): optimizer updates done.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: nn.Module,
        *,
        frozen: Sequence[nn.Module] = (),
        learning_rate_multipliers: Mapping[str, float] | None = None,
        also_save: Sequence[str] = (),
        ema_decay: float | None = None,
    ):
        check_training_arguments(args)
        self.args = args
        self.accelerator = make_accelerator(args)
        self.step = 0
        self._num_samples: int | None = None
        self.frozen = list(frozen)
        self.also_save = tuple(also_save)
        for module in self.frozen:
            module.requires_grad_(False).eval().to(self.accelerator.device)
        optimizer = torch.optim.AdamW(
            make_parameter_groups(model, args.weight_decay, learning_rate_multipliers),
            lr=args.learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
        )
        self.unwrapped_model = model
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.ema = self._make_ema(ema_decay) if ema_decay else None
        self.metrics = MetricsLog(args.output_dir, self.accelerator)
        if checkpoint := find_checkpoint(args.output_dir, args.resume):
            self._load(checkpoint)
        self.metrics.start(self.step, vars(args))
        self._frozen_versions = self._versions_of_frozen()
        self._stop_requested = False
        self._checked = False
        self._checkpointed_step = self.step

    @property
    def device(self) -> torch.device:
        """Where batches and models live."""
        return self.accelerator.device

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer update, over all processes and micro-batches."""
        return self.args.batch_size * self.args.gradient_accumulation_steps * self.accelerator.num_processes

    def make_batches(
        self,
        dataset: Sequence,
        *,
        collate_fn: Callable[[list], Any] | None = None,
        transform: Callable[[Any, torch.Generator], Any] | None = None,
    ) -> Iterator[Any]:
        """Reads a map-style data set for ever from the current step on; see [`~seed_hf.training_data.make_batches`].

        Args:
            dataset (`Sequence`): map-style data set.
            collate_fn (`Callable[[list], Any]`, *optional*): makes a batch of a list of samples.
            transform (`Callable[[Any, torch.Generator], Any]`, *optional*): augments one sample, with a generator that
                belongs to the sample and the epoch.

        Returns:
            `Iterator`: micro-batches on the CPU; [`TrainingRun.fit`] moves them.

        Raises:
            ValueError: if the data set has another length than before a resume, or less than one global batch.
        """
        if self._num_samples not in (None, len(dataset)):
            raise ValueError(
                f"dataset has {len(dataset)} samples; the checkpoint was made with {self._num_samples}: the run would "
                "not go on with the same samples. Start in another output_dir."
            )
        self._num_samples = len(dataset)
        return make_batches(
            dataset,
            self.args.batch_size,
            seed=self.args.seed,
            start_step=self.step,
            num_processes=self.accelerator.num_processes,
            process_index=self.accelerator.process_index,
            accumulation_steps=self.args.gradient_accumulation_steps,
            transform=transform,
            collate_fn=collate_fn,
            num_workers=self.args.num_workers,
            pin_memory=self.device.type == "cuda",
        )

    def fit(
        self,
        batches: Iterator[Any],
        compute_loss: Callable[[Any], tuple[torch.Tensor, Mapping[str, Any]]],
        *,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        save_final: Callable[[], None] | None = None,
        count_targets: Callable[[Any], float] | None = None,
    ) -> bool:
        """Trains until `max_steps`, `max_minutes`, or SIGTERM / SIGUSR1; each of these ends with a checkpoint.

        Args:
            batches (`Iterator`): micro-batches, endless, starting at `run.step` (see [`TrainingRun.make_batches`]).
            compute_loss (`Callable`): from a micro-batch on the device to the loss (scalar tensor, a mean) and a dict
                of numbers to log, with the same keys every time; NaN stands for "nothing to say this time". Runs
                under autocast.
            evaluate (`Callable`, *optional*): returns numbers to log; called by every process, without gradients, in
                eval mode, every `eval_every` steps and at the end.
            save_final (`Callable`, *optional*): saves the model for use; called by the main process at a clean stop.
            count_targets (`Callable`, *optional*): from a micro-batch (on the CPU) to the number of items that its
                mean loss is over (such as target tokens). Then micro-batches and processes are weighted so that the
                update is that of one big batch also when these numbers differ.

        Returns:
            `bool`: whether `max_steps` was reached.

        Raises:
            FloatingPointError: if loss or gradient become NaN or infinite; the weights of the last good step are kept.
        """
        args, started = self.args, time.monotonic()
        progress = self._progress_bar()
        with call_on_signals(self._request_stop):
            while self.step < args.max_steps and not self._stop_requested:
                step_started = time.perf_counter()
                micro_batches = [next(batches) for _ in range(args.gradient_accumulation_steps)]
                means = self._update(micro_batches, compute_loss, count_targets)
                self.step += 1
                progress.update()
                self.metrics.add(means, self.global_batch_size, time.perf_counter() - step_started)
                out_of_time = args.max_minutes and time.monotonic() - started > 60 * args.max_minutes
                self._stop_requested = self._any_process(self._stop_requested or bool(out_of_time))
                if self.step % args.log_every == 0 or self.step == args.max_steps:
                    progress.set_postfix(self.metrics.write(self.step, args.max_steps), refresh=False)
                if evaluate and (_is_due(self.step, args.eval_every) or self.step == args.max_steps):
                    self._evaluate(evaluate)
                if _is_due(self.step, args.checkpoint_every):
                    self.save()
        progress.close()
        if self._checkpointed_step != self.step:
            self.save()
        if save_final and self.accelerator.is_main_process:
            save_final()
        self.accelerator.wait_for_everyone()
        self.metrics.close()
        finished = self.step >= args.max_steps
        if not finished:
            logger.warning(f"Stopped at step {self.step} of {args.max_steps}; the same command goes on from there.")
        return finished

    def _update(self, micro_batches: list, compute_loss: Callable, count_targets: Callable | None) -> dict[str, float]:
        """One optimizer update; returns the means over micro-batches and processes."""
        accelerator = self.accelerator
        seed_everything(derive_seed(self.args.seed, self.step, accelerator.process_index))
        self._train_mode()
        learning_rate = learning_rate_at(self.step, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["multiplier"]

        sums: dict[str, torch.Tensor] = {}
        for batch, weight in zip(micro_batches, self._weights(micro_batches, count_targets), strict=True):
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    loss, metrics = compute_loss(send_to_device(batch, self.device, non_blocking=True))
                    loss = loss * weight
                accelerator.backward(loss)
            self._add_metrics(sums, {**metrics, "loss": loss})
        means = self._mean_metrics(sums)
        self._check_finite("loss", means["loss"])
        grad_norm = self._clip_gradients()
        means |= {"learning_rate": learning_rate, **({"grad_norm": grad_norm} if math.isfinite(grad_norm) else {})}
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
        if not self._checked:
            self._check_nothing_else_changed()
            self._checked = True
        return means

    def _train_mode(self) -> None:
        self.model.train()
        for module in self.frozen:
            module.eval()

    def _weights(self, micro_batches: list, count_targets: Callable | None) -> list[float]:
        """Factors on the mean losses of micro-batches that make their mean the mean over all targets."""
        if count_targets is None:
            return [1.0] * len(micro_batches)
        counts = [float(count_targets(batch)) for batch in micro_batches]
        total = self.accelerator.reduce(torch.tensor(sum(counts), device=self.device)).item()
        num_micro_batches = len(micro_batches) * self.accelerator.num_processes
        return [count * num_micro_batches / max(total, 1.0) for count in counts]

    def _add_metrics(self, sums: dict[str, torch.Tensor], metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
            # A NaN loss must show; a NaN elsewhere says that this batch has nothing to tell.
            told = torch.ones_like(value) if name == "loss" else (~value.isnan()).float()
            value = value if name == "loss" else value.nan_to_num()
            sums[name] = sums.get(name, 0) + torch.stack([value, told])

    def _mean_metrics(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        names = sorted(sums)
        table = self.accelerator.reduce(torch.stack([sums[name] for name in names])).tolist()
        return {name: total / count for name, (total, count) in zip(names, table, strict=True) if count}

    def _clip_gradients(self) -> float:
        """Clips the gradient, checks it, and returns its norm before clipping."""
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.args.max_grad_norm or math.inf)
        if not self._checked:
            self._check_gradients(norm.detach())
        scaler = self.accelerator.scaler
        if scaler is None:  # With one, an infinite gradient is normal: the update is skipped and the scale halved.
            self._check_finite("grad_norm", norm.item())
        elif scaler.get_scale() < 1:
            raise FloatingPointError(f"The fp16 loss scale fell below 1 at step {self.step + 1}: gradients overflow.")
        return norm.item()

    def _check_gradients(self, norm: torch.Tensor) -> None:
        """Once a run, catches two silent mistakes: weights that do not learn, processes that learn apart."""
        named = self.unwrapped_model.named_parameters()
        if idle := [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]:
            logger.warning(f"{len(idle)} trainable parameters got no gradient in the first update: {idle[:8]} ...")
        norms = self.accelerator.gather(norm.reshape(1))
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

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} is {value} at step {self.step + 1}; training stopped before this update. Checkpoints in "
                f"{self.args.output_dir} are intact. Try a lower learning_rate, or max_grad_norm=1."
            )

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> None:
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            results = evaluate()
        self.metrics.write_evaluation(self.step, results)

    def _progress_bar(self) -> tqdm:
        if self.accelerator.is_main_process:
            tqdm.write(self._summary(), file=sys.stderr)
        return tqdm(
            total=self.args.max_steps,
            initial=self.step,
            disable=not self.accelerator.is_main_process,
            # In a log file every refresh becomes text that stays.
            mininterval=0.5 if sys.stderr.isatty() else 10,
            dynamic_ncols=True,
        )

    def _summary(self) -> str:
        args, accelerator = self.args, self.accelerator
        millions = sum(parameter.numel() for parameter in self.parameters) / 1e6
        return (
            f"Steps {self.step} to {args.max_steps} of {self.global_batch_size} samples ({args.batch_size} x "
            f"{args.gradient_accumulation_steps} accumulated x {accelerator.num_processes} processes), "
            f"{millions:.2f} M trainable parameters, {self.device.type}, precision {accelerator.mixed_precision}"
        )

    def _request_stop(self) -> None:
        self._stop_requested = True

    def _any_process(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    def _make_ema(self, decay: float):
        from diffusers.training_utils import EMAModel

        return EMAModel(self.parameters, decay=decay)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the moving average in place of the weights while the block runs (nothing changes without one)."""
        if self.ema:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            if self.ema:
                self.ema.restore(self.parameters)

    def save(self) -> None:
        """Writes `checkpoint-<step>` to the output folder: trained weights, optimizer, average, scaler, arguments."""
        if self.accelerator.is_main_process:
            description = {
                "metrics_window": self.metrics.window,
                "identity": self._identity(),
                "num_samples": self._num_samples,
                "num_processes": self.accelerator.num_processes,
                "mixed_precision": self.accelerator.mixed_precision,
                "arguments": {name: value for name, value in vars(self.args).items() if not callable(value)},
                "versions": package_versions(),
            }
            state = trainable_state(self.unwrapped_model, self.frozen, self.also_save)
            save_checkpoint(
                self.args.output_dir, self.step, state, self._training_state(), description, self.args.keep_checkpoints
            )
        self._checkpointed_step = self.step
        self.accelerator.wait_for_everyone()

    def _training_state(self) -> dict:
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def _identity(self) -> dict[str, int]:
        """What has to stay the same for the data order, and so the run, to go on exactly."""
        return {"seed": self.args.seed, "global_batch_size": self.global_batch_size}

    def _load(self, checkpoint: Path) -> None:
        state, description = load_training_state(checkpoint)
        check_same_run(checkpoint, description, self._identity(), vars(self.args))
        load_model_state(trainable_state(self.unwrapped_model, self.frozen, self.also_save), checkpoint)
        # The learning rate is set each step and the other settings of a group come from the arguments of this run.
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.device)
        self.step = description["step"]
        self._num_samples = description["num_samples"]
        self.metrics.window = description["metrics_window"]


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
