"""A training run: it owns the loop, the step counter, checkpoints and metrics."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method
from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.batches import make_batches
from ..data.reading import SkippedSamples
from ..provenance import package_versions
from .arguments import RunArguments
from .checkpoint import (
    check_same_run,
    choose_checkpoint,
    describe_newest,
    load_model_state,
    load_training_state,
    refuse_nan,
    save_checkpoint,
    trainable_state,
)
from .launch import make_accelerator
from .metrics import MetricsLog
from .optimizer import make_optimizer
from .sharding import gather_optimizer_state, gather_shards, load_optimizer_state, own_heads, shard_like, whole_weights
from .signals import call_on_signals
from .update import OptimizerUpdate


logger = logging.get_logger(__name__)


class TrainingRun:
    """One training run: owns the accelerator, the optimizer, the step counter, checkpoints and metrics.

    Constructing it resumes: afterwards `step` says where the run stands. Call `transformers.set_seed(args.seed)`
    before building the model, so that a run is repeatable from its first weights on.

    Args:
        args ([`~seed_hf.trainer.arguments.RunArguments`]): Arguments of the run.
        model (`nn.Module`): Holds all trainable parameters (those with `requires_grad`). The loss must call the
            prepared `run.model`, once per micro-batch, or several processes would not share gradients.
        frozen (`Sequence[nn.Module]`): Modules that only help (also parts of `model`): Moved to the device, in eval
            mode, without gradients, neither prepared nor saved in checkpoints. Call them under `torch.no_grad()`.
        learning_rate_multipliers (`Mapping[str, float]`, *optional*): See [`make_parameter_groups`].
        also_save (`Sequence[str]`): Prefixes of parameters without gradient that training changes nevertheless; see
            [`~seed_hf.trainer.checkpoint.trainable_state`].
        ema_decay (`float`, *optional*): Keep a moving average of the trainable parameters with this decay; use it
            with [`TrainingRun.averaged_weights`].
        by_micro_batch (`bool`, defaults to `False`): Whether the update depends on how the global batch is cut into
            micro-batches (a codebook that is their moving average, say). Then a resume that cuts it otherwise, as
            another number of processes would, is refused.

    Attributes:
        model (`nn.Module`): The prepared model; `unwrapped_model` is the original.
        accelerator (`Accelerator`): Precision, device and processes.
        step (`int`): Number of optimizer updates made.
    """

    def __init__(
        self,
        args: RunArguments,
        model: nn.Module,
        *,
        frozen: Sequence[nn.Module] = (),
        learning_rate_multipliers: Mapping[str, float] | None = None,
        also_save: Sequence[str] = (),
        ema_decay: float | None = None,
        by_micro_batch: bool = False,
    ):
        self.args = args
        self.accelerator = make_accelerator(args)
        self.step = 0
        self._num_samples: int | None = None
        self.frozen = list(frozen)
        self.also_save = tuple(also_save)
        self.by_micro_batch = by_micro_batch
        for module in self.frozen:
            module.requires_grad_(False).eval().to(self.accelerator.device)
        optimizer = make_optimizer(model, args, self.device, learning_rate_multipliers)
        self.unwrapped_model = model
        with own_heads(model):
            self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        if hasattr(model, "generate"):  # evaluations call it; without FSDP2 this does nothing
            register_fsdp_forward_method(model, "generate")
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.ema = self._make_ema(ema_decay) if ema_decay else None
        self.metrics = MetricsLog(args.output_dir, self.accelerator)
        if checkpoint := choose_checkpoint(args.output_dir, args.resume, self.accelerator):
            self._load(checkpoint)
        self.metrics.start(self.step, vars(args))
        self._update = OptimizerUpdate(
            args, self.accelerator, self.model, model, self.optimizer, self.frozen, self.also_save
        )
        self._stop_requested = False
        self._checkpointed_step = self.step

    @property
    def device(self) -> torch.device:
        """Where batches and models live."""
        return self.accelerator.device

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer update, over all processes and micro-batches."""
        return self.args.batch_size * self.accumulation_steps * self.accelerator.num_processes

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches per process and optimizer update."""
        return self.accelerator.gradient_accumulation_steps

    def make_batches(
        self,
        dataset: Sequence,
        *,
        collate_fn: Callable[[list], Any] | None = None,
        transform: Callable[[Any, torch.Generator], Any] | None = None,
    ) -> Iterator[Any]:
        """Reads a map-style data set endlessly from the current step on; see [`~seed_hf.data.batches.make_batches`].

        Args:
            dataset (`Sequence`): Map-style data set.
            collate_fn (`Callable[[list], Any]`, *optional*): Makes a batch of a list of samples.
            transform (`Callable[[Any, torch.Generator], Any]`, *optional*): Augments one sample, with a generator that
                belongs to the sample and the epoch.

        Returns:
            `Iterator`: Micro-batches on the CPU; [`TrainingRun.fit`] moves them.

        Raises:
            ValueError: If the data set has another length than before a resume, or less than one global batch.
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
            accumulation_steps=self.accumulation_steps,
            transform=transform,
            collate_fn=collate_fn,
            num_workers=self.args.num_workers,
            pin_memory=self.device.type == "cuda",
            skipped=SkippedSamples(Path(self.args.output_dir) / "unreadable.jsonl", self.args.max_unreadable_share),
        )

    def fit(
        self,
        batches: Iterator[Any],
        compute_loss: Callable[[Any], tuple[torch.Tensor, Mapping[str, Any]]],
        *,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        save_final: Callable[[], None] | None = None,
        count_targets: Callable[[Any], float] | None = None,
        look_ahead: Callable[[Sequence[Any], Callable[[int], None]], Sequence[Any]] | None = None,
    ) -> bool:
        """Trains until `max_steps`, a limit on the time, or SIGTERM / SIGUSR1; each of these ends with a checkpoint.

        Args:
            batches (`Iterator`): Endless micro-batches, starting at `run.step` (see [`TrainingRun.make_batches`]).
            compute_loss (`Callable`): From a micro-batch on the device to the loss (scalar tensor, a mean) and a dict
                of numbers to log, with the same keys every time; NaN stands for "nothing to say this time". Runs
                under autocast.
            evaluate (`Callable`, *optional*): Returns numbers to log; called by every process, without gradients, in
                eval mode, every `eval_every` steps and at the end.
            save_final (`Callable`, *optional*): Saves the model for use, with averaged weights where there are any;
                called by the main process at a clean stop.
            count_targets (`Callable`, *optional*): From a micro-batch (on the CPU) to the number of items that its
                mean loss is over (such as target tokens). Then micro-batches and processes are weighted so that the
                update is that of one big batch also when these numbers differ.
            look_ahead (`Callable`, *optional*): Before each update with more than one micro-batch, from all those of
                this process (on the CPU) and a function that seeds the one of a number to the micro-batches to learn
                from; see [`~seed_hf.trainer.feature_cache.FeatureCache`].

        Returns:
            `bool`: Whether `max_steps` was reached.

        Raises:
            FloatingPointError: If loss or gradient become NaN or infinite; the weights of the last good step are kept.
                If weights have become NaN, no checkpoint is written.
            OSError: If a file could not be written (a full disk, say); earlier checkpoints are untouched.
            RuntimeError: If data could not be read or an evaluation failed, after a checkpoint; the cause is chained.
        """
        args = self.args
        deadline = time.monotonic() + 60 * args.max_minutes if args.max_minutes else float("inf")
        if args.stop_at:
            deadline = min(deadline, time.monotonic() + args.stop_at - time.time())
        progress = self._progress_bar()
        with call_on_signals(self._request_stop):
            while self.step < args.max_steps:
                step_started = time.perf_counter()
                micro_batches = self._read(batches)
                if self._any_process(self._stop_requested):
                    break
                means = self._update(self.step, micro_batches, compute_loss, count_targets, look_ahead)
                self.step += 1
                if self.ema:
                    self.ema.step(self.parameters)
                progress.update()
                self.metrics.add(means, self.global_batch_size, time.perf_counter() - step_started)
                if self.step % args.log_every == 0 or self.step == args.max_steps:
                    with self._together("Writing the metrics"):
                        progress.set_postfix(self.metrics.write(self.step, args.max_steps), refresh=False)
                if evaluate and (_is_due(self.step, args.eval_every) or self.step == args.max_steps):
                    self._evaluate(evaluate)
                if _is_due(self.step, args.checkpoint_every):
                    self.save()
                self._stop_requested |= time.monotonic() > deadline
        progress.close()
        return self._finish(save_final)

    def _read(self, batches: Iterator[Any]) -> list[Any]:
        """Micro-batches of a step; a failure leaves a checkpoint."""
        micro_batches, error = [], None
        try:
            micro_batches = [next(batches) for _ in range(self.accumulation_steps)]
        except Exception as failure:  # whatever it is, the other processes must not wait for this one
            error = failure
        self._stop_after(error, f"Reading the data of step {self.step + 1}")
        return micro_batches

    def _stop_after(self, error: Exception | None, what: str) -> None:
        """If one process has failed, whatever the error, all of them stop, with a checkpoint."""
        if self._any_process(error is not None):
            if self._checkpointed_step != self.step:
                self.save()
            raise RuntimeError(
                f"{what} failed {f'with {error!r}' if error else 'in another process'}; the checkpoint of step "
                f"{self.step} in {self.args.output_dir} is complete, and {self._how_to_go_on}."
            ) from error

    @property
    def _how_to_go_on(self) -> str:
        # "no" would be refused, and a path would start from there again
        is_same = self.args.resume == "auto"
        return f"the same command {'' if is_same else 'with --resume auto '}goes on from there"

    def _any_process(self, flag: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """If one process cannot read or write a file in the block (a full disk, say), all of them stop."""
        error = None
        try:
            yield
        except OSError as failure:
            error = failure
        if self._any_process(error is not None):
            raise OSError(
                f"{what} failed at step {self.step} ({error or 'in another process'}); "
                f"{describe_newest(self.args.output_dir)}."
            ) from error

    def _finish(self, save_final: Callable[[], None] | None) -> bool:
        if self._checkpointed_step != self.step:
            self.save()
        if save_final:
            is_main = self.accelerator.is_main_process
            with (
                self._together("Saving the model"),
                self.averaged_weights(),
                whole_weights(self.unwrapped_model, keep=is_main),
            ):
                if is_main:
                    save_final()
        self.accelerator.wait_for_everyone()
        self.metrics.close()
        finished = self.step >= self.args.max_steps
        if not finished:
            logger.warning(f"Stopped at step {self.step} of {self.args.max_steps}; {self._how_to_go_on}.")
        return finished

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> None:
        self.model.eval()
        error = None
        try:
            with torch.no_grad(), self.accelerator.autocast():
                results = evaluate()
            self.metrics.write_evaluation(self.step, results)
        except Exception as failure:  # whatever it is, it must not cost the steps since the last checkpoint
            error = failure
        self._stop_after(error, f"The evaluation of step {self.step}")

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
            f"{self.accumulation_steps} accumulated x {accelerator.num_processes} processes), "
            f"{millions:.2f} M trainable parameters, {self.device.type}, precision {accelerator.mixed_precision}"
        )

    def _request_stop(self) -> None:
        self._stop_requested = True

    def _make_ema(self, decay: float):
        from diffusers.training_utils import EMAModel  # here, since most runs need no diffusers

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
        description = {
            "metrics_window": self.metrics.window,
            "identity": self._identity(),
            "num_samples": self._num_samples,
            "num_processes": self.accelerator.num_processes,
            "mixed_precision": self.accelerator.mixed_precision,
            "arguments": dict(vars(self.args)),
            "versions": package_versions(),
        }
        model_state = trainable_state(self.unwrapped_model, self.frozen, self.also_save)
        refuse_nan(model_state, f" at step {self.step}; no checkpoint is written", self.args.output_dir)
        # shards are gathered by all processes together
        model_state = gather_shards(model_state, keep=self.accelerator.is_main_process)
        training_state = self._training_state()
        output_dir, keep = self.args.output_dir, self.args.keep_checkpoints
        with self._together("Writing the checkpoint"):
            if self.accelerator.is_main_process:
                save_checkpoint(output_dir, self.step, model_state, training_state, description, keep)
        self._checkpointed_step = self.step

    def _training_state(self) -> dict:
        scaler = self.accelerator.scaler
        return {
            "optimizer": gather_optimizer_state(self.optimizer, self.accelerator),
            "scaler": scaler.state_dict() if scaler else None,
            "ema": gather_shards(self.ema.state_dict(), self.accelerator.is_main_process) if self.ema else None,
        }

    def _identity(self) -> dict[str, int]:
        """What has to stay the same for the data order, and so the run, to go on exactly."""
        identity = {"seed": self.args.seed, "global_batch_size": self.global_batch_size}
        return {**identity, **({"micro_batches": self.accumulation_steps} if self.by_micro_batch else {})}

    def _load(self, checkpoint: Path) -> None:
        # the moments of a model that needs FSDP do not fit the memory of a machine once for each of its processes
        is_sharded = self.accelerator.distributed_type == DistributedType.FSDP
        state, description = load_training_state(checkpoint, mmap=is_sharded)
        check_same_run(checkpoint, description, self._identity(), vars(self.args))
        load_model_state(trainable_state(self.unwrapped_model, self.frozen, self.also_save), checkpoint)
        load_optimizer_state(self.optimizer, state["optimizer"], self.accelerator)
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self._load_ema(state["ema"])
        self.step = description["step"]
        self._num_samples = description["num_samples"]
        self.metrics.window = description["metrics_window"]

    def _load_ema(self, state: dict | None) -> None:
        """A run that kept no average until now starts one from its weights; the decay is the argument's."""
        decay = self.ema.decay
        if state:
            spread = map(shard_like, state["shadow_params"], self.parameters)
            self.ema.load_state_dict({**state, "shadow_params": list(spread)})
            self.ema.decay = decay
        else:
            self.ema = self._make_ema(decay)
        self.ema.to(self.device)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
