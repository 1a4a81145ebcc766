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

import argparse
from collections.abc import Sequence
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

import torch
from peft import LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from seed_hf import (
    SeedForCausalLM,
    SeedImageProcessor,
    SeedImageTokenizer,
    SeedPipeline,
    SeedProcessor,
    SeedTokenizer,
)
from seed_hf.data.captioned_images import add_data_arguments, load_rows, reading_settings
from seed_hf.data.codes import read_codes
from seed_hf.data.encode import encode_once
from seed_hf.mini.base_model import base_model_folder, load_base_tokenizer
from seed_hf.mini.emoji import make_questions
from seed_hf.mini.small_language_model import build_small_language_model, start_image_tokens, train_tokenizer
from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments
from seed_hf.trainer.grids import picture_grid, spread
from seed_hf.trainer.packing import check_packing, collate_samples, model_inputs
from seed_hf.trainer.pairs import PairMaker, describe_captions, list_texts, word_f1


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script and of every training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--language_model", default="facebook/opt-2.7b", help="any causal LM; or 'smollm2'")
    model.add_argument("--language_model_revision", help="commit of it, which the saved adapter names too")
    model.add_argument("--language_model_config", help="configuration file of a small LM with new weights, instead")
    model.add_argument("--vocab_size", type=int, default=3000, help="words of that small LM")
    init_help = "SeedForCausalLM folder to go on from instead, image tokens and all (an adapter: --init_adapter)"
    model.add_argument("--init_model", help=init_help)
    model.add_argument("--image_tokenizer", help="folder of a trained SeedImageTokenizer and its processor")
    model.add_argument("--image_tokenizer_id", help="what the saved tokenizer names; default: --image_tokenizer")
    model.add_argument("--image_token_embedding", default="projected_codes", choices=["projected_codes", "learned"])
    start_help = "'learned' vectors of codes start as mean image features of the pictures that have them"
    model.add_argument("--start_image_tokens", action="store_true", help=start_help)
    model.add_argument("--init_adapter", help="adapter folder to start from (the part before)")
    # SEED-LLaMA's vicuna_7b_lora.yaml
    model.add_argument("--lora_rank", type=int, default=16, help="0 trains every weight instead")
    model.add_argument("--lora_alpha", type=float, default=32)
    model.add_argument("--lora_dropout", type=float, default=0.05)
    model.add_argument("--picture_decoder", help="SeedPipeline folder: draw written codes at each evaluation")
    model.add_argument("--attn_implementation", default="sdpa", help="'eager' is faster for bf16 training on a CPU")
    model.add_argument("--base_dtype", default="auto", help="dtype of the frozen weights, such as 'bfloat16'")
    model.add_argument("--gradient_checkpointing", action="store_true", help="4/3 the time, a tenth of the memory")
    data = parser.add_argument_group("data")
    data.add_argument("--codes", help="what `seed-hf encode` wrote, or its Hub id; else --dataset is encoded first")
    add_data_arguments(data, required=False)
    data.add_argument("--augmented_views", type=int, default=0, help="further codes per picture (the original: none)")
    data.add_argument("--encode_dtype", default="auto", help="of the image tokenizer while it encodes --dataset")
    data.add_argument("--task", choices=["caption", "both"], default="both")
    data.add_argument(
        "--image_ratio", type=float, default=0.5, help="share of text to image in 'both' (SEED-LLaMA: 0.5)"
    )
    data.add_argument("--question_ratio", type=float, default=0.0, help="share of questions among image to text")
    data.add_argument("--unconditional_ratio", type=float, default=0.0, help="text to image without its caption")
    data.add_argument("--tag_ratio", type=float, default=0.0, help="text to image with some tags after the caption")
    mix_help = "to read, take each code from any view of the picture (the original has one view)"
    data.add_argument("--mix_views", action="store_true", help=mix_help)
    noise_help = "share of the codes of pictures to read that are replaced by random ones (the original: none)"
    data.add_argument("--code_noise", type=float, default=0.0, help=noise_help)
    data.add_argument("--max_text_tokens", type=int, default=32, help="captions are cut to it (LAVIS: 32)")
    data.add_argument(
        "--pack_length", type=int, default=0, help="tokens of a row of several samples; 0 = one a row, padded"
    )
    data.add_argument("--num_eval_images", type=int, default=64, help="captions written at each evaluation")
    return parse_training_arguments(parser, argv)


def load_language_model(args: argparse.Namespace, rows: Sequence[dict]):
    """Language model and its tokenizer: pretrained, or small with new weights."""
    folder = str(base_model_folder()) if args.language_model == "smollm2" else args.language_model
    tokenizer = load_base_tokenizer() if args.language_model == "smollm2" else AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32 if args.lora_rank == 0 else args.base_dtype
    settings = {"dtype": dtype, "attn_implementation": args.attn_implementation}
    settings["revision"] = args.language_model_revision or "main"
    language_model = AutoModelForCausalLM.from_pretrained(folder, **settings)
    if not args.language_model_config:
        return language_model, tokenizer, folder
    small_tokenizer = train_tokenizer(list_texts(rows), args.vocab_size)
    small = build_small_language_model(args.language_model_config, small_tokenizer, language_model, tokenizer)
    small.set_attn_implementation(args.attn_implementation)
    return small, small_tokenizer, folder


def build_new_model(args: argparse.Namespace, rows: Sequence[dict]):
    """Processor and model: a language model that is taught the image tokens, whose vectors are fresh."""
    image_tokenizer = SeedImageTokenizer.from_pretrained(args.image_tokenizer)
    language_model, base_tokenizer, folder = load_language_model(args, rows)
    tokenizer = SeedTokenizer.from_base_tokenizer(
        base_tokenizer,
        codebook_size=image_tokenizer.config.codebook_size,
        num_query_tokens=image_tokenizer.config.num_query_tokens,
        image_tokenizer_id=args.image_tokenizer_id or args.image_tokenizer,
    )
    processor = SeedProcessor(SeedImageProcessor.from_pretrained(args.image_tokenizer), tokenizer)
    model = SeedForCausalLM.from_language_model(
        language_model, tokenizer, image_tokenizer, image_token_embedding=args.image_token_embedding
    )
    if args.start_image_tokens:
        if args.image_token_embedding != "learned":
            raise ValueError(
                f"`start_image_tokens` with `image_token_embedding` {args.image_token_embedding!r}; allowed: "
                "'learned'."
            )
        start_image_tokens(model, image_tokenizer, torch.tensor([row["codes"] for row in rows]))
    return processor, model, folder


def load_trained_model(args: argparse.Namespace):
    """Processor and model of the folder to go on from."""
    dtype = torch.float32 if args.lora_rank == 0 else args.base_dtype
    settings = {"dtype": dtype, "attn_implementation": args.attn_implementation, "image_tokenizer": None}
    processor = SeedProcessor.from_pretrained(args.init_model)
    processor.tokenizer.image_tokenizer_id = args.image_tokenizer_id or args.image_tokenizer
    return processor, SeedForCausalLM.from_pretrained(args.init_model, **settings), args.init_model


def build_model(args: argparse.Namespace, rows: Sequence[dict]):
    """Processor and model; the trained parts need gradients."""
    processor, model, folder = load_trained_model(args) if args.init_model else build_new_model(args, rows)
    if args.lora_rank:
        model = add_lora(model, args, folder)
    if args.gradient_checkpointing:
        # transformers has given it a new name
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return processor, model


def add_lora(model: SeedForCausalLM, args: argparse.Namespace, folder: str) -> PeftModel:
    """LoRA in every linear layer of the language model; the image tokens' own weights are trained in full."""
    config = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        task_type="CAUSAL_LM",
        revision=args.language_model_revision,
        **model.lora_settings(),
    )
    model.name_or_path = model.config._name_or_path = folder
    if model.image_embeddings is not None:
        # trained weights stay float32 whatever the frozen ones are
        model.image_embeddings.float()
    peft_model = get_peft_model(model, config)
    if args.init_adapter:
        set_peft_model_state_dict(peft_model, load_peft_weights(args.init_adapter))
    return peft_model


def load_pairs(args: argparse.Namespace, split: str, augmented_views: int):
    """Rows with codes, memory-mapped."""
    if args.codes:
        return read_codes(args.codes, split, args.image_tokenizer)
    rows = load_rows(args.dataset, split, **reading_settings(args))
    cache = Path(args.output_dir).parent / "codes"
    settings = {"augmented_views": augmented_views, "dtype": args.encode_dtype}
    return encode_once(rows, args.image_tokenizer, cache, split, **settings)


@torch.no_grad()
def write_captions(model, processor: SeedProcessor, rows: list[dict], batch_size: int = 64) -> list[str]:
    """Greedy captions of rows, from their first codes."""
    captions = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        codes = torch.tensor([row["codes"] for row in batch])
        inputs = processor(
            text=[processor.caption_prompt] * len(batch), codes=codes, padding=True, return_tensors="pt"
        )
        ids = model.generate(**inputs.to(model.device), max_new_tokens=16, do_sample=False)
        captions += processor.post_process_generation(ids, prompt_length=inputs["input_ids"].shape[1])
    return captions


def evaluate_captions(run: TrainingRun, processor: SeedProcessor, maker: PairMaker, rows: list[dict]) -> dict:
    """Exact match and word F1 of greedy captions, and the loss of both tasks, on unseen pictures."""
    model = run.unwrapped_model
    captions = write_captions(model, processor, rows)
    results = {
        "caption_exact": sum(got == row["caption"] for got, row in zip(captions, rows, strict=True)) / len(rows),
        "caption_word_f1": sum(word_f1(got, row["caption"]) for got, row in zip(captions, rows, strict=True))
        / len(rows),
    }
    tqdm.write(describe_captions(captions, rows, 12))
    for kind in ("caption", "image"):
        pairs = [maker.make(row, row["codes"], kind) for row in rows]
        losses = []
        for start in range(0, len(pairs), 32):
            batch = collate_samples(pairs[start : start + 32], processor.tokenizer.pad_token_id)
            inputs = model_inputs({name: value.to(run.device) for name, value in batch.items()})
            losses.append(model(**inputs, target_logits_only=True, use_cache=False).loss.item())
        results[f"{kind}_loss"] = sum(losses) / len(losses)
    if maker.args.picture_decoder and maker.args.task == "both":
        draw_pictures(run, processor, rows, maker.args.picture_decoder)
    return results


def draw_pictures(run: TrainingRun, processor: SeedProcessor, rows: list[dict], picture_decoder: str) -> None:
    """What a diffusion model makes of pictures' own codes, and of those that the language model writes instead."""
    rows = [rows[number] for number in spread(rows, 8)]
    captions = [row["caption"] for row in rows]
    pipeline = SeedPipeline.from_pretrained(
        picture_decoder, language_model=run.unwrapped_model, processor=processor
    ).to(run.device)
    settings = {"generator": torch.Generator().manual_seed(0)}
    own = pipeline(codes=torch.tensor([row["codes"] for row in rows]), **settings).images
    written = pipeline(prompt=captions, generation_kwargs={"do_sample": False}, **settings).images
    grid = picture_grid([list(pair) for pair in zip(own, written, strict=True)], captions, ["own codes", "written"])
    run.metrics.write_picture(run.step, "pictures", grid)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    if args.image_tokenizer is None:
        raise ValueError("`image_tokenizer` is None; allowed: a folder with a trained SeedImageTokenizer.")
    train_rows = load_pairs(args, args.train_split, args.augmented_views)
    set_seed(args.seed)  # here: whether the codes had to be computed first must not change the new weights
    processor, model = build_model(args, train_rows)
    eval_rows = [row for row in load_pairs(args, args.eval_split, 0) if not row.get("is_flag")]
    eval_rows = eval_rows[:: max(1, len(eval_rows) // max(1, args.num_eval_images))][: args.num_eval_images]
    maker = PairMaker(processor, make_questions, args)
    run = TrainingRun(args, model)
    pad_token_id = processor.tokenizer.pad_token_id
    if args.pack_length:
        probes = [maker.make(row, row["codes"], "caption") for row in (train_rows[0], train_rows[1])]
        check_packing(run.unwrapped_model.eval(), probes, pad_token_id, args.attn_implementation)

    def compute_loss(batch):
        inputs = model_inputs(batch, args.attn_implementation, run.unwrapped_model.dtype)
        output = run.model(**inputs, target_logits_only=True, use_cache=False)
        targets = batch["labels"][:, 1:]
        is_target = targets != -100
        with torch.no_grad():
            is_right = output.logits.argmax(-1) == targets[is_target]
            of_image = batch["is_image"][:, 1:][is_target]
        metrics = {
            "text_accuracy": is_right[~of_image].float().mean(),
            "code_accuracy": is_right[of_image].float().mean(),
            "tokens": (batch["sample_ids"] > 0).sum(),
        }
        return output.loss, metrics

    def save_final():
        # the image tokens' own rows are in `modules_to_save`; PEFT would look for a resized table in the LM's folder
        settings = {"save_embedding_layers": False} if args.lora_rank else {"max_shard_size": "25MB"}
        run.unwrapped_model.save_pretrained(args.output_dir, **settings)
        processor.save_pretrained(args.output_dir)
        model.config.save_pretrained(args.output_dir)

    run.fit(
        run.make_batches(
            train_rows,
            transform=maker,
            collate_fn=lambda pairs: collate_samples(pairs, pad_token_id, args.pack_length),
        ),
        compute_loss,
        evaluate=lambda: evaluate_captions(run, processor, maker, eval_rows),
        save_final=save_final,
        count_targets=lambda batch: float((batch["labels"] != -100).sum()),
    )


if __name__ == "__main__":
    main()
