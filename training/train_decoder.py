"""Train seed-mini's picture decoder: a stock UNet that draws from a text encoder's features.

SEED-1 uses Stable Diffusion's UNet as it is; no such weights come with a PyPI package, so the mini trains its own. Its
condition is what stage 2 learns to predict from codes: the frozen text encoder's features of the caption.

Trained: the UNet (moving average saved). Frozen: autoencoder, text encoder.

    python training/train_decoder.py --recipe training/recipes/mini/decoder.yaml --vae out/vae \
        --target_model out/stage1 --output_dir out/decoder-text

Then, departures from SEED-1, some steps with means of several names, and some in which half of the conditions are what
stage 2 decodes from the codes of a training picture (in any style): both are less exact than the text encoder's own:

    python training/train_decoder.py --recipe training/recipes/mini/decoder_names.yaml --vae out/vae \
        --target_model out/stage1 --init_unet out/decoder-text/unet --image_tokenizer out/stage2 \
        --output_dir out/decoder-names
    python training/train_decoder.py --recipe training/recipes/mini/decoder_codes.yaml --vae out/vae \
        --target_model out/stage1 --init_unet out/decoder-names/unet --image_tokenizer out/stage2 \
        --output_dir out/decoder
"""

from dataclasses import dataclass


import seed_hf_script  # isort: skip  # noqa: F401

from transformers.hf_argparser import HfArg

from seed_hf.data.settings import STYLES
from seed_hf.trainer.arguments import RunArguments, parse_arguments
from seed_hf.trainer.settings import ConditionSettings


@dataclass(frozen=True, kw_only=True)
class Arguments(ConditionSettings, RunArguments):
    """Arguments of this script."""

    _argument_group_name = "decoder"

    vae: str = HfArg(help="Folder of the frozen autoencoder.")
    target_model: str = HfArg(default="minilm", help="Text encoder whose features are the condition.")
    max_text_tokens: int = HfArg(default=16, help="Number of features, where the text encoder gives several.")
    dataset: str = HfArg(default="emoji", help="`emoji`, or a glob of parquet files.")
    styles: list[str] = HfArg(
        default_factory=lambda: list(STYLES), help="Drawing sets, best first: one picture per caption."
    )
    skip_flags: bool = HfArg(default=False, help="Leave flags out: many near-duplicates.")
    widths: list[int] = HfArg(default_factory=lambda: [128, 160, 224], help="Number of channels at each resolution.")
    init_unet: str | None = HfArg(default=None, help="UNet folder to go on from.")
    image_tokenizer: str | None = HfArg(default=None, help="Stage-2 folder: also learn from what its codes decode to.")
    code_dataset: str = HfArg(default="emoji", help="Data set whose images these codes are of.")
    code_split: str = HfArg(default="train", help="Split of it, also with a slice, such as `train[:1000]`.")
    allow_outside_paths: bool = HfArg(
        default=False,
        help="Also read images that --code_dataset names by a path or URL outside of its own folder or source.",
    )
    augmented_views: int = HfArg(default=0, help="Number of further codes per image.")
    encode_dtype: str = HfArg(default="auto", help="Dtype of the image tokenizer while it encodes.")
    code_noise: float = HfArg(
        default=0.0, help="Largest share of an image's codes that is replaced by those of other images."
    )
    ema_decay: float = HfArg(default=0.999, help="Decay of the averaged weights.")

    learning_rate: float = 4e-4
    min_learning_rate: float = 2e-5
    warmup_steps: int = 100
    max_steps: int = 5000
    max_grad_norm: float = 1.0


def parse_args(argv: list[str] | None = None) -> Arguments:
    """Arguments of a command line."""
    return parse_arguments(Arguments, argv, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)

    # after parsing, so that --help needs no torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import set_seed

    from seed_hf.evaluation.text_encoders import load_text_encoder
    from seed_hf.mini.pictures import load_pictures
    from seed_hf.trainer.pairs import load_coded_rows
    from seed_hf.trainer.run import TrainingRun
    from seed_hf.trainer.stages.decoder import (
        DecoderStage,
        LatentsAndCaptions,
        build_unet,
        check_prediction_type,
        decode_codes_by_caption,
        encode_latents,
    )

    if args.init_unet:
        check_prediction_type(args.init_unet, args.prediction_type)
    set_seed(args.seed)
    pictures, held_out = (
        load_pictures(args.dataset, split, args.styles, flags=not args.skip_flags) for split in ("train", "validation")
    )
    vae = AutoencoderKL.from_pretrained(args.vae).eval().requires_grad_(False)
    data = LatentsAndCaptions(encode_latents(vae, pictures), pictures)
    encoder = load_text_encoder(None if args.target_model == "minilm" else args.target_model, args.max_text_tokens)
    unet = build_unet(vae, data.latents.shape[-1], args.widths, encoder.embedding_dim)
    if args.init_unet:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(args.init_unet).state_dict())
    from_codes = {}
    if args.image_tokenizer:
        rows = load_coded_rows(
            args.code_split,
            args.image_tokenizer,
            output_dir=args.output_dir,
            dataset=args.code_dataset,
            reading={
                "max_unreadable_share": args.max_unreadable_share,
                "allow_outside_paths": args.allow_outside_paths,
            },
            augmented_views=args.augmented_views,
            dtype=args.encode_dtype,
        )
        set_seed(args.seed)  # here: whether codes had to be computed first must not change which ones are replaced
        from_codes = decode_codes_by_caption(args.image_tokenizer, rows, args.code_noise)

    run = TrainingRun(args, unet, frozen=[vae], ema_decay=args.ema_decay)
    stage = DecoderStage(run, vae, encoder, data, held_out, args, from_codes)
    batches = run.make_batches(stage.data, transform=stage.transform, collate_fn=stage.collate)
    run.fit(batches, stage.compute_loss, evaluate=stage.evaluate, save_final=stage.save)


if __name__ == "__main__":
    main()
