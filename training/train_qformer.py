"""Stage 1: the Causal Q-Former, image-text contrastive (paper section 3.1).

Trained: query tokens, Causal Q-Former with its text side, `ln_vision`, projections, temperature. Frozen: the ViT,
unless `--train_vision` (for small data where no pretrained ViT fits). Negatives are those of the whole global batch,
also where accumulation stands in for processes.

Full size, from BLIP-2's weights (`seed-hf convert blip-2 blip2-itm-vit-g --output stage-1-start`):

    accelerate launch --config_file training/accelerate/eight_nodes_v100.yaml training/train_qformer.py \
        --recipe training/recipes/seed-1/stage1.yaml --init_model stage-1-start --dataset DATA --output_dir out/stage1

seed-mini:

    python training/train_qformer.py --recipe training/recipes/mini/stage1.yaml --output_dir out/stage1
"""

from dataclasses import dataclass


import seed_hf_script  # isort: skip  # noqa: F401

from transformers.hf_argparser import HfArg

from seed_hf.data.settings import Augmentation, DataSettings
from seed_hf.trainer.arguments import RunArguments, parse_arguments
from seed_hf.trainer.settings import CompileSettings


@dataclass(frozen=True, kw_only=True)
class Arguments(CompileSettings, DataSettings, Augmentation, RunArguments):
    """Arguments of this script."""

    _argument_group_name = "stage 1"

    init_model: str | None = HfArg(
        default=None, help="SeedImageTokenizer folder to start from, with its text tokenizer."
    )
    config: str | None = HfArg(default=None, help="SeedImageTokenizerConfig file, for new weights.")
    text_model: str = HfArg(
        default="bert-base-uncased",
        help="With --config: BERT to start the Q-Former from, or `minilm`. With --init_model: where the tokenizer "
        "comes from if that folder has none, as one converted from BLIP-2.",
    )
    num_frequent_words: int = HfArg(
        default=0, help="Prune the vocabulary to this number of frequent words; 0: keep all."
    )
    attn_implementation: str = HfArg(default="sdpa", help="`eager` is faster for bf16 training on a CPU.")
    train_vision: bool = HfArg(default=False, help="Also train the ViT; of a pretrained stem its last layers.")
    vision_lr_multiplier: float = HfArg(default=1.0, help="Factor on the learning rate of the ViT.")
    group_by: str = HfArg(default="caption", help="Column of whose equal values a pass shows one; empty: show all.")
    max_text_tokens: int = HfArg(default=32, help="Captions are cut to this many tokens (the original: 32).")
    cache_views: int = HfArg(
        default=0, help="Put this many augmented views of each image once through the pretrained vision; 0: none."
    )
    keep_views: bool = HfArg(
        default=False, help="Keep cached views in the output folder, so that a run that goes on has them at once."
    )
    tag_probability: float = HfArg(default=0.0, help="Share of captions followed by some of their tags.")


def parse_args(argv: list[str] | None = None) -> Arguments:
    """Arguments of a command line."""
    return parse_arguments(Arguments, argv, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    if not (args.init_model or args.config):
        raise ValueError("`config` is None; allowed: a configuration file, unless `init_model` names a folder.")

    # after parsing, so that --help needs no torch
    from transformers import set_seed

    from seed_hf.data.captioned_images import CaptionedImages, load_held_out
    from seed_hf.data.rows import load_rows
    from seed_hf.trainer.launch import compile_blocks
    from seed_hf.trainer.run import TrainingRun
    from seed_hf.trainer.stages.qformer import (
        QFormerStage,
        build_model,
        build_processor,
        freeze_for_stage_1,
        load_model,
    )

    set_seed(args.seed)
    reading = {
        "max_unreadable_share": args.max_unreadable_share,
        "allow_outside_paths": args.allow_outside_paths,
    }
    data = CaptionedImages(load_rows(args.dataset, args.train_split, **reading), args.group_by)
    held_out = load_held_out(args.dataset, args.eval_split, **reading)

    if args.init_model:
        model, tokenizer = load_model(args.init_model, args.text_model, args.attn_implementation)
    else:
        text = (args.text_model, args.attn_implementation)
        model, tokenizer = build_model(args.config, *text, data, args.num_frequent_words)
    if args.train_vision and args.cache_views and not model.config.use_conv_stem:
        raise ValueError(f"`cache_views` is {args.cache_views}; allowed with `train_vision`: 0, or a ViT with a stem.")
    freeze_for_stage_1(model, args.train_vision)
    if args.torch_compile:
        compile_blocks(model.vision_model.encoder)

    multipliers = {"vision_model.": args.vision_lr_multiplier} if args.train_vision else None
    run = TrainingRun(args, model, learning_rate_multipliers=multipliers)
    stage = QFormerStage(
        run,
        tokenizer,
        build_processor(model, args.init_model),
        data,
        held_out,
        augmentation=args,
        max_text_tokens=args.max_text_tokens,
        num_cached_views=args.cache_views,
        keeps_views=args.keep_views,
        tag_probability=args.tag_probability,
    )
    batches = run.make_batches(stage.views, transform=stage.transform, collate_fn=stage.collate)
    run.fit(
        stage.with_views(batches),
        stage.compute_loss,
        evaluate=stage.evaluate,
        save_final=stage.save,
        look_ahead=stage.cache.look_ahead,
    )


if __name__ == "__main__":
    main()
