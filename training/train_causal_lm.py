"""Stage 3: a causal language model learns to read and write codes, with LoRA (paper section 3.3).

Trained: LoRA in every linear layer of the language model, the layer that maps codebook vectors to the model's width,
the rows of `<img>` and `</img>`. Frozen: the language model, the codebook. `--task caption` is the paper's first part
(image to text only), `--task both` its second (half of the samples text to image); start the second from the first
with `--init_adapter`.

Full size, from codes that `seed-hf encode` has computed; the second part goes on from the first's adapter:

    accelerate launch --config_file training/accelerate/eight_nodes_v100.yaml training/train_causal_lm.py \
        --recipe training/recipes/seed-1/stage3a.yaml --image_tokenizer out/stage2 --codes CODES \
        --output_dir out/stage3a
    accelerate launch ... --recipe training/recipes/seed-1/stage3b.yaml --image_tokenizer out/stage2 --codes CODES \
        --init_adapter out/stage3a --output_dir out/stage3b

seed-mini:

    python training/train_causal_lm.py --recipe training/recipes/mini/stage3.yaml --image_tokenizer out/stage2 \
        --output_dir out/stage3
"""

from dataclasses import dataclass


import seed_hf_script  # isort: skip  # noqa: F401

from transformers.hf_argparser import HfArg

from seed_hf.data.settings import DataSettings
from seed_hf.trainer.arguments import RunArguments, parse_arguments
from seed_hf.trainer.settings import CompileSettings, LanguageModelSettings, LoraSettings, PairSettings


@dataclass(frozen=True, kw_only=True)
class Arguments(LanguageModelSettings, LoraSettings, PairSettings, CompileSettings, DataSettings, RunArguments):
    """Arguments of this script."""

    _argument_group_name = "stage 3"

    codes: str | None = HfArg(
        default=None, help="What `seed-hf encode` wrote, or its Hub id; without it, --dataset is encoded first."
    )
    dataset: str | None = None
    augmented_views: int = HfArg(default=0, help="Number of further codes per image (the original: none).")
    encode_dtype: str = HfArg(default="auto", help="Dtype of the image tokenizer while it encodes --dataset.")
    pack_length: int = HfArg(
        default=0, help="Number of tokens of a row that holds several samples; 0: one sample a row, padded."
    )
    label_smoothing: float = HfArg(
        default=0.0, help="Share of the target that goes to all tokens alike, where the target is text."
    )
    num_eval_images: int = HfArg(default=64, help="Number of captions written at each evaluation.")
    picture_decoder: str | None = HfArg(
        default=None, help="SeedPipeline folder that draws written codes at each evaluation."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_eval_images < 1:
            raise ValueError(f"num_eval_images={self.num_eval_images} must be at least 1.")


def parse_args(argv: list[str] | None = None) -> Arguments:
    """Arguments of a command line."""
    return parse_arguments(Arguments, argv, __doc__)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)

    # after parsing, so that --help needs no torch
    from transformers import set_seed

    from seed_hf.mini.emoji import make_questions
    from seed_hf.trainer.launch import compile_blocks
    from seed_hf.trainer.pairs import PairMaker, load_coded_rows
    from seed_hf.trainer.run import TrainingRun
    from seed_hf.trainer.stages.causal_lm import LanguageModelStage, build_model

    settings = {
        "output_dir": args.output_dir,
        "codes": args.codes,
        "dataset": args.dataset,
        "reading": {
            "max_unreadable_share": args.max_unreadable_share,
            "allow_outside_paths": args.allow_outside_paths,
        },
        "dtype": args.encode_dtype,
    }
    rows = load_coded_rows(args.train_split, args.image_tokenizer, **settings, augmented_views=args.augmented_views)
    set_seed(args.seed)  # here: whether the codes had to be computed first must not change the new weights
    processor, model = build_model(settings=args, lora=args, rows=rows)
    if args.torch_compile:
        compile_blocks(model)
    held_out = [
        row for row in load_coded_rows(args.eval_split, args.image_tokenizer, **settings) if not row.get("is_flag")
    ]
    held_out = held_out[:: max(1, len(held_out) // args.num_eval_images)][: args.num_eval_images]

    run = TrainingRun(args, model)
    maker = PairMaker(processor, make_questions, args, rows)
    stage = LanguageModelStage(
        run,
        maker,
        rows,
        held_out,
        attn_implementation=args.attn_implementation,
        pack_length=args.pack_length,
        label_smoothing=args.label_smoothing,
        picture_decoder=args.picture_decoder,
    )
    run.fit(
        run.make_batches(rows, transform=maker, collate_fn=stage.collate),
        stage.compute_loss,
        evaluate=stage.evaluate,
        save_final=stage.save,
        count_targets=stage.count_targets,
    )


if __name__ == "__main__":
    main()
