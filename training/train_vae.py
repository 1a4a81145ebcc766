"""Train the small autoencoder whose latents seed-mini's picture decoder works in.

    python training/train_vae.py --recipe training/recipes/mini/vae.yaml --output_dir out/vae

SEED takes Stable Diffusion's autoencoder and UNet off the shelf; no such weights come with a PyPI package, so the mini
trains its own: a stock `AutoencoderKL` (64 x 64 pixels -> 16 channels of 8 x 8), with an L1 loss and a very small KL
term. At the end its latents are centred per channel and `scaling_factor` is set so that their variance is one.
"""

from dataclasses import dataclass


import seed_hf_script  # isort: skip  # noqa: F401

from transformers.hf_argparser import HfArg

from seed_hf.data.settings import STYLES
from seed_hf.trainer.arguments import RunArguments, parse_arguments


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Arguments of this script."""

    _argument_group_name = "autoencoder"

    dataset: str = HfArg(default="emoji", help="`emoji`, or a glob of parquet files.")
    styles: list[str] = HfArg(
        default_factory=lambda: list(STYLES), help="Drawing sets, best first: one picture per caption."
    )
    skip_flags: bool = HfArg(default=False, help="Leave flags out: many near-duplicates.")
    size: int = HfArg(default=64, help="Side of a picture in pixels.")
    kl_weight: float = HfArg(default=1e-4, help="Weight of the KL term.")

    learning_rate: float = 1e-3
    warmup_steps: int = 50
    max_steps: int = 600
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


def parse_args(argv: list[str] | None = None) -> Arguments:
    """Arguments of a command line."""
    return parse_arguments(Arguments, argv, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)

    # after parsing, so that --help needs no torch
    from transformers import set_seed

    from seed_hf.mini.pictures import load_pictures
    from seed_hf.trainer.run import TrainingRun
    from seed_hf.trainer.stages.autoencoder import AutoencoderLoss, AutoencoderStage, build_autoencoder

    set_seed(args.seed)
    pictures, held_out = (
        load_pictures(args.dataset, split, args.styles, args.size, flags=not args.skip_flags)
        for split in ("train", "validation")
    )
    run = TrainingRun(args, AutoencoderLoss(build_autoencoder(args.size), args.kl_weight))
    stage = AutoencoderStage(run, pictures, held_out)
    run.fit(run.make_batches(stage.data), stage.compute_loss, evaluate=stage.evaluate, save_final=stage.save)


if __name__ == "__main__":
    main()
