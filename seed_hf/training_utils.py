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
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, send_to_device, set_seed
from torch import nn
from tqdm.auto import tqdm
from transformers.utils import logging

from .training_checkpoint import (
    find_checkpoint,
    load_model_state,
    load_training_state,
    package_versions,
    save_checkpoint,
    trainable_state,
)
from .training_data import derive_seed, make_batches
from .training_metrics import MetricsLog


logger = logging.get_logger(__name__)


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all training scripts share.

    A script sets its own defaults afterwards with `parser.set_defaults(learning_rate=..., max_steps=...)`.

    Args:
        parser (`argparse.ArgumentParser`): parser to extend.
    """
    group = parser.add_argument_group("length and batch (a step is one optimizer update)")
    add = group.add_argument
    add("--max_steps", type=int, default=1000, help="optimizer updates in all")
    add("--max_minutes", type=float, default=0, help="stop with a checkpoint after so many minutes; 0 = no limit")
    add("--batch_size", type=int, default=64, help="samples per process and micro-batch")
    add("--gradient_accumulation_steps", type=int, default=1, help="micro-batches per optimizer update")
    add("--num_workers", type=int, default=0, help="data reading processes per process; batches do not depend on it")
    add("--seed", type=int, default=42, help="seed of weights, data order, augmentation and dropout")

    group = parser.add_argument_group("optimizer (AdamW, linear warm-up, then cosine)")
    add = group.add_argument
    add("--learning_rate", type=float, default=1e-4, help="peak, reached after the warm-up")
    add("--min_learning_rate", type=float, default=0.0, help="end of the cosine, reached at max_steps")
    add("--warmup_steps", type=int, default=0, help="optimizer updates of warm-up")
    add("--warmup_learning_rate", type=float, default=0.0, help="start of the warm-up")
    add("--weight_decay", type=float, default=0.05, help="not applied to vectors, biases and norms")
    add("--adam_beta1", type=float, default=0.9, help="decay of the mean of gradients")
    add("--adam_beta2", type=float, default=0.999, help="decay of the mean of squared gradients")
    add("--adam_epsilon", type=float, default=1e-8, help="added to the denominator of AdamW")
    add("--max_grad_norm", type=float, default=0.0, help="clip the norm of the gradient to this; 0 = no clipping")
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: what `accelerate launch` says, else no")

    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--output_dir", type=str, required=True, help="folder of metrics, checkpoints and the final model")
    add("--log_every", type=int, default=10, help="steps between lines of metrics.jsonl (means over these steps)")
    add("--eval_every", type=int, default=0, help="steps between evaluations; 0 = at the end only")
    add("--checkpoint_every", type=int, default=500, help="steps between checkpoints; 0 = at the end only")
    add("--keep_checkpoints", type=int, default=2, help="newest checkpoints to keep; 0 = all")
    add("--resume", type=str, default="auto", help="auto = newest in output_dir; no; or a checkpoint's path")
    add("--report_to", choices=["tensorboard", "wandb", "none"], default="tensorboard", help="tracker")


def check_training_arguments(args: argparse.Namespace) -> None:
    """Refuses values with which a run could only fail later.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    for name in ("max_steps", "batch_size", "gradient_accumulation_steps", "log_every"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}={getattr(args, name)} must be at least 1.")
    for name, value in vars(args).items():
        if isinstance(value, int | float) and name in _NOT_NEGATIVE and not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} must be finite and not negative.")
    if args.min_learning_rate > args.learning_rate:
        raise ValueError(
            f"min_learning_rate={args.min_learning_rate} must not exceed learning_rate={args.learning_rate}."
        )
    if args.mixed_precision in ("fp16", "bf16") and torch.cuda.is_available():
        if args.mixed_precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ValueError("mixed_precision='bf16' is only emulated, slowly, on this GPU. Allowed: 'no', 'fp16'.")
    elif args.mixed_precision == "fp16":
        raise ValueError("mixed_precision='fp16' would silently do nothing on a CPU. Allowed: 'no', 'bf16'.")


_NOT_NEGATIVE = frozenset(
    "max_minutes num_workers seed learning_rate min_learning_rate warmup_steps warmup_learning_rate weight_decay "
    "adam_epsilon max_grad_norm eval_every checkpoint_every keep_checkpoints".split()
)


def learning_rate_at(step: int, args: argparse.Namespace) -> float:
    """Computes the learning rate of an optimizer update: linear warm-up, then half a cosine.

    It is set from the step instead of by a scheduler object: a scheduler that Accelerate prepared is stepped once per
    process, so the schedule would run `num_processes` times too fast.

    Source: recipe of BLIP-2 in LAVIS (`lavis/common/optims.py`), with the cosine per step instead of per epoch and a
    warm-up that is not cut off at the end of the first epoch.

    Args:
        step (`int`): optimizer update, counted from 0.
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].

    Returns:
        `float`: learning rate.
    """
    if step < args.warmup_steps:
        slope = (args.learning_rate - args.warmup_learning_rate) / args.warmup_steps
        return args.warmup_learning_rate + slope * step
    progress = min(1.0, (step - args.warmup_steps) / max(1, args.max_steps - args.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return args.min_learning_rate + (args.learning_rate - args.min_learning_rate) * cosine


def is_decayed(name: str, parameter: torch.Tensor) -> bool:
    """Tells whether weight decay applies: to tensors of two or more dimensions that are neither bias nor norm.

    Source: `optimizer` in `lavis/runners/runner_base.py`. As there, query tokens, position embeddings and a trained
    codebook are decayed; the temperature is not.

    Args:
        name (`str`): name of the parameter.
        parameter (`torch.Tensor`): the parameter.

    Returns:
        `bool`: whether it is decayed.
    """
    parts = name.lower().split(".")
    is_norm = any("norm" in part or part in ("ln", "bn") or part.startswith(("ln_", "bn")) for part in parts)
    return parameter.ndim >= 2 and "bias" not in parts[-1] and not is_norm


def make_parameter_groups(
    model: nn.Module, weight_decay: float, learning_rate_multipliers: Mapping[str, float] | None = None
) -> list[dict]:
    """Sorts the trainable parameters by weight decay and learning rate.

    Args:
        model (`nn.Module`): only its parameters with `requires_grad` are taken.
        weight_decay (`float`): decay of the decayed ones, see [`is_decayed`].
        learning_rate_multipliers (`Mapping[str, float]`, *optional*): factor on the learning rate by prefix of the
            parameter's name; the longest prefix that fits counts; 1 otherwise.

    Returns:
        `list[dict]`: groups for `torch.optim.AdamW` with the further keys `multiplier` (`float`) and `names`
        (`list[str]`).

    Raises:
        ValueError: if nothing is trainable or a prefix fits no trainable parameter.
    """
    multipliers = dict(learning_rate_multipliers or {})
    groups: dict[tuple[float, float], dict] = {}
    unused = set(multipliers)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = max((prefix for prefix in multipliers if name.startswith(prefix)), key=len, default=None)
        unused.discard(prefix)
        decay, multiplier = weight_decay if is_decayed(name, parameter) else 0.0, multipliers.get(prefix, 1.0)
        empty = {"params": [], "weight_decay": decay, "multiplier": multiplier, "names": []}
        group = groups.setdefault((decay, multiplier), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("model has no parameter with requires_grad=True: nothing to train.")
    if unused:
        raise ValueError(f"learning_rate_multipliers names {sorted(unused)}, but no trainable parameter starts so.")
    return list(groups.values())


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Makes the `Accelerator` of a run and checks that it is as parallel as it was launched.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].

    Returns:
        `Accelerator`: set up for this package's loop.

    Raises:
        RuntimeError: if several processes were launched that do not know of each other.
    """
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        step_scheduler_with_optimizer=False,
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != accelerator.num_processes:
        raise RuntimeError(
            f"{launched} processes were launched, but each runs alone. On CPUs, set ACCELERATE_USE_CPU=true and "
            "launch with `accelerate launch --multi_gpu --num_processes N` (see training/README.md)."
        )
    return accelerator


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
        self._stop_requested = False
        self._first_update = True
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
        """
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
        with self._stop_on_signals():
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
                    progress.set_postfix(self.metrics.write(self.step, args.max_steps))
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
        set_seed(derive_seed(self.args.seed, self.step, accelerator.process_index))
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
        means["grad_norm"] = self._clip_gradients()
        means["learning_rate"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
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
        first = self._first_update
        self._first_update = False
        if first and (idle := [name for name, p in self._named_parameters() if p.grad is None]):
            logger.warning(f"{len(idle)} trainable parameters got no gradient in the first update: {idle[:8]} ...")
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.args.max_grad_norm or math.inf)
        if first:
            norms = self.accelerator.gather(norm.detach().reshape(1))
            if not torch.allclose(norms, norms[0], equal_nan=True):
                raise RuntimeError(
                    f"Gradients differ between processes (norms {norms.tolist()}): compute_loss must call run.model, "
                    "not the model that was passed to TrainingRun."
                )
        scaler = self.accelerator.scaler
        if scaler is None:
            self._check_finite("grad_norm", norm.item())
        elif scaler.get_scale() < 1:
            raise FloatingPointError(f"The fp16 loss scale fell below 1 at step {self.step + 1}: gradients overflow.")
        return norm.item()

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.unwrapped_model.named_parameters() if p.requires_grad]

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
        return tqdm(
            total=self.args.max_steps,
            initial=self.step,
            disable=not self.accelerator.is_main_process,
            # In a log file every refresh becomes text that stays.
            mininterval=0.5 if sys.stderr.isatty() else 10,
            dynamic_ncols=True,
        )

    def _any_process(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    @contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        """Turns SIGTERM and SIGUSR1 (SLURM's warning before the time limit) into a stop after the current step."""

        def request_stop(number, frame):
            self._stop_requested = True

        self._stop_requested = False
        try:
            previous = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
        except ValueError:  # Only the main thread may set handlers; elsewhere (a notebook's thread) do without.
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

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
        if description["identity"] != self._identity():
            raise ValueError(
                f"{checkpoint} was saved with {description['identity']}, this run has {self._identity()}: it would not "
                "go on with the same samples. Set batch_size x gradient_accumulation_steps x processes and the seed "
                "as before, or start in another output_dir."
            )
        changed = {
            name: (before, getattr(self.args, name, None))
            for name, before in description["arguments"].items()
            if before != getattr(self.args, name, None) and name not in ("resume", "output_dir", "max_minutes")
        }
        if changed:
            logger.warning(f"Resuming with other arguments than before (before, now): {changed}")
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
        self.metrics.window = description["metrics_window"]


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
