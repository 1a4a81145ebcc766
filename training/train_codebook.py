"""Stage 2: codebook, decoder blocks and generation head (paper section 3.2).

Trained: the quantizer, both stacks of decoder blocks, the generation head. Frozen: ViT, Causal Q-Former, text side,
and the encoder that makes the targets. loss = 5 * quantizer + 2 * (1 - cosine(rebuilt, causal embedding)) +
0.5 * MSE(generation embedding, target), with the weights of the configuration; the targets are a text encoder's
features of the caption (SEED-1) or CLIP's embedding of the picture (SEED-2).

Full size, on stage 1's output:

    accelerate launch --config_file training/accelerate/eight_nodes_v100.yaml training/train_codebook.py \
        --recipe training/recipes/seed-1/stage2.yaml --init_model out/stage1 --dataset DATA --output_dir out/stage2

seed-mini:

    python training/train_codebook.py --recipe training/recipes/mini/stage2.yaml --init_model out/stage1 \
        --output_dir out/stage2

seed-mini's decoders further, so that the first codes of an image say as much as they can:

    python training/train_codebook.py --recipe training/recipes/mini/stage2_prefixes.yaml --init_model seed-mini \
        --output_dir out/stage2-prefixes
"""

from dataclasses import dataclass


import seed_hf_script  # isort: skip  # noqa: F401

from transformers.hf_argparser import HfArg

from seed_hf.data.settings import Augmentation, DataSettings
from seed_hf.trainer.arguments import RunArguments, parse_arguments
from seed_hf.trainer.settings import TRAINED_IN_STAGE_2, CompileSettings


@dataclass(frozen=True, kw_only=True)
class Arguments(CompileSettings, DataSettings, Augmentation, RunArguments):
    """Arguments of this script."""

    _argument_group_name = "stage 2"

    init_model: str = HfArg(
        help="SeedImageTokenizer folder of stage 1, with its text tokenizer; or `seed-mini`, to train it further."
    )
    target_model: str = HfArg(
        default="openai/clip-vit-large-patch14", help="What makes the targets; `own`: the text feature of init_model."
    )
    attn_implementation: str = HfArg(default="sdpa", help="`eager` is faster for bf16 training on a CPU.")
    trained_parts: list[str] = HfArg(
        default_factory=lambda: list(TRAINED_IN_STAGE_2),
        metadata={"choices": TRAINED_IN_STAGE_2},
        help="Parts to train; the rest is frozen.",
    )
    init_codebook_images: int = HfArg(default=0, help="Start the codebook by k-means on this many images; 0: do not.")
    prefix_probability: float = HfArg(
        default=0.0,
        help="Share of images decoded from a random number of their first codes only (the paper: none): these then "
        "say as much as they can.",
    )
    picture_decoder: str | None = HfArg(
        default=None, help="SeedPipeline folder that draws pictures from codes at each evaluation."
    )
    prototypes: bool = HfArg(
        default=False,
        help="Turn the generation embeddings of the saved model towards the targets of the training captions near "
        "them (the paper: none).",
    )
    max_text_tokens: int = HfArg(default=32, help="Captions are cut to this many tokens for retrieval.")
    cache_views: int = HfArg(
        default=0, help="Encode this many augmented views of each image once, before training; 0: in every step."
    )
    keep_views: bool = HfArg(
        default=False, help="Keep cached views in the output folder, so that a run that goes on has them at once."
    )


def parse_args(argv: list[str] | None = None) -> Arguments:
    """Arguments of a command line."""
    return parse_arguments(Arguments, argv, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)

    # after parsing, so that --help needs no torch
    import torch
    from transformers import AutoTokenizer, set_seed

    from seed_hf.data.captioned_images import CaptionedImages, all_captions, load_held_out
    from seed_hf.data.rows import load_rows
    from seed_hf.hub.fetch import find_image_tokenizer
    from seed_hf.models import SeedImageProcessor, SeedImageTokenizer
    from seed_hf.trainer.launch import compile_blocks
    from seed_hf.trainer.run import TrainingRun
    from seed_hf.trainer.stages.codebook import CodebookStage, freeze_for_stage_2, run_settings
    from seed_hf.trainer.targets import load_targets

    set_seed(args.seed)
    init_model, processor_folder = find_image_tokenizer(args.init_model)
    model = SeedImageTokenizer.from_pretrained(
        init_model,
        dtype=torch.float32,  # seed-mini ships in half precision
        attn_implementation=args.attn_implementation,
        prefix_probability=args.prefix_probability,
    )
    tokenizer = AutoTokenizer.from_pretrained(init_model)
    processor = SeedImageProcessor.from_pretrained(processor_folder)
    freeze_for_stage_2(model, args.trained_parts)
    if args.torch_compile:
        compile_blocks(model.vision_model.encoder)

    reading = {
        "max_unreadable_share": args.max_unreadable_share,
        "allow_outside_paths": args.allow_outside_paths,
    }
    data = CaptionedImages(load_rows(args.dataset, args.train_split, **reading))
    held_out = load_held_out(args.dataset, args.eval_split, **reading)
    captions = all_captions(data.rows) + [row["caption"] for row in held_out]
    target_model = str(init_model) if args.target_model == "own" else args.target_model
    targets = load_targets(target_model, model.config, captions)

    run = TrainingRun(args, model, frozen=[targets.module], **run_settings(model))
    stage = CodebookStage(
        run,
        tokenizer,
        processor,
        data,
        held_out,
        augmentation=args,
        max_text_tokens=args.max_text_tokens,
        num_cached_views=args.cache_views,
        keeps_views=args.keep_views,
        targets=targets,
        picture_decoder=args.picture_decoder,
        prototypes=all_captions(data.rows) if args.prototypes else (),
    )
    if args.init_codebook_images and run.step == 0:
        batches = run.make_batches(stage.views, collate_fn=stage.collate)
        stage.start_codebook(stage.with_views(batches), args.init_codebook_images)
    batches = run.make_batches(stage.views, collate_fn=stage.collate)
    run.fit(stage.with_views(batches), stage.compute_loss, evaluate=stage.evaluate, save_final=stage.save)


if __name__ == "__main__":
    main()
