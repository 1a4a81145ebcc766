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

import argparse
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

import torch
from transformers import AutoTokenizer, set_seed

from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.data.augmentation import add_augmentation_arguments, augment
from seed_hf.data.captioned_images import (
    CaptionedImages,
    add_data_arguments,
    draw_caption,
    load_held_out,
    load_rows,
    open_image,
    reading_settings,
    with_tags,
)
from seed_hf.data.view_cache import CachedViews
from seed_hf.evaluation.retrieval import retrieval_scores, tokenize
from seed_hf.evaluation.text_encoders import default_text_encoder_folder
from seed_hf.mini.vision_stem import IMAGE_MEAN, IMAGE_STD, load_stem
from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments
from seed_hf.trainer.feature_cache import FeatureCache
from seed_hf.trainer.grids import retrieval_grid
from seed_hf.trainer.init_from_bert import init_from_bert, load_text_tower, prune_vocabulary


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script and of every training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--init_model", help="SeedImageTokenizer folder to start from (with its text tokenizer)")
    model.add_argument("--config", help="SeedImageTokenizerConfig file, for new weights")
    model.add_argument(
        "--text_model", default="bert-base-uncased", help="BERT to start the Q-Former from; or 'minilm'"
    )
    model.add_argument(
        "--num_frequent_words", type=int, default=0, help="prune the vocabulary to so many; 0 = keep all"
    )
    model.add_argument("--attn_implementation", default="sdpa", help="'eager' is faster for bf16 training on a CPU")
    model.add_argument("--train_vision", action="store_true", help="also train the ViT (not a pretrained stem of it)")
    model.add_argument("--vision_lr_multiplier", type=float, default=1.0, help="factor on its learning rate")
    data = parser.add_argument_group("data")
    add_data_arguments(data)
    data.add_argument("--group_by", default="caption", help="column whose equal values are shown once a pass")
    data.add_argument("--max_text_tokens", type=int, default=32, help="captions are cut to it (original: 32)")
    views_help = "put so many augmented views of each image once through the pretrained vision; 0 = none"
    data.add_argument("--cache_views", type=int, default=0, help=views_help)
    data.add_argument("--tag_probability", type=float, default=0.0, help="share of captions followed by some tags")
    add_augmentation_arguments(data)
    return parse_training_arguments(parser, argv)


def build_model(args: argparse.Namespace, train: CaptionedImages):
    """Model and text tokenizer: from a folder, or new weights on top of a pretrained BERT."""
    if args.init_model:
        model = SeedImageTokenizer.from_pretrained(args.init_model, attn_implementation=args.attn_implementation)
        return model, load_text_tokenizer(args, model)
    if not args.config:
        raise ValueError("`config` is None; allowed: a configuration file, unless `init_model` names a folder.")
    folder = default_text_encoder_folder() if args.text_model == "minilm" else args.text_model
    tokenizer, bert = load_text_tower(folder)
    kept_ids = None
    if args.num_frequent_words:
        rows = train.rows.remove_columns("image")
        texts = [text for row in rows for text in (row["caption"], *(row.get("tags") or []))]
        tokenizer, kept_ids = prune_vocabulary(tokenizer, texts, args.num_frequent_words)
    config = SeedImageTokenizerConfig.from_pretrained(args.config, attn_implementation=args.attn_implementation)
    config.qformer_config.vocab_size = len(tokenizer)
    model = SeedImageTokenizer(config)
    init_from_bert(model, bert, kept_ids)
    if config.use_conv_stem:
        load_stem(model.vision_model.embeddings.patch_embedding)
    return model, tokenizer


def load_text_tokenizer(args: argparse.Namespace, model: SeedImageTokenizer):
    """That of the folder to start from; one converted from BLIP-2 has none and goes with BERT's."""
    folder = Path(args.init_model)
    has_own = not folder.is_dir() or any(folder.glob("tokenizer*.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder if has_own else args.text_model)
    vocab_size = model.config.qformer_config.vocab_size
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"`text_model` {args.text_model!r} has {len(tokenizer)} words; allowed: {vocab_size} at most."
        )
    return tokenizer


def freeze_for_stage_1(model: SeedImageTokenizer, train_vision: bool = False, cached: bool = False) -> None:
    """The original trains everything but the ViT (and the parts of stage 2); `ln_vision` is trained, unless what it
    gives is cached. A pretrained stem of the ViT stays frozen, but for its last layer."""
    model.requires_grad_(False)
    for part in (model.causal_qformer, model.vision_projection, model.text_projection):
        part.requires_grad_(True)
    model.vision_model.post_layernorm.requires_grad_(not cached)
    model.temperature.requires_grad_(True)
    if train_vision:
        model.vision_model.requires_grad_(True)
        if model.config.use_conv_stem:
            stem = model.vision_model.embeddings.patch_embedding
            stem.requires_grad_(False).projection.requires_grad_(True)


def build_processor(model: SeedImageTokenizer) -> SeedImageProcessor:
    """The transform that the pretrained vision wants: CLIP's colours, or the stem's."""
    size = model.config.vision_config.image_size
    colours = {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD} if model.config.use_conv_stem else {}
    return SeedImageProcessor(size={"height": size, "width": size}, **colours)


def evaluate_retrieval(run: TrainingRun, processor, tokenizer, rows: list[dict], args) -> dict[str, float]:
    """Retrieval from causal embeddings, on unseen pictures."""
    model, features = run.unwrapped_model, []
    for start in range(0, len(rows), 256):
        images = [open_image(row) for row in rows[start : start + 256]]
        pixel_values = processor(images, return_tensors="pt")["pixel_values"].to(model.device)
        features.append(model.get_image_features(pixel_values).pooler_output)
    features, captions = torch.cat(features), [row["caption"] for row in rows]
    run.metrics.write_picture(
        run.step, "retrieval", retrieval_grid(model, tokenizer, features, rows, args.max_text_tokens)
    )
    return retrieval_scores(model, tokenizer, features, captions, args.max_text_tokens)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    set_seed(args.seed)
    train = CaptionedImages(load_rows(args.dataset, args.train_split, **reading_settings(args)), args.group_by)
    held_out = load_held_out(args.dataset, args.eval_split, **reading_settings(args))
    model, tokenizer = build_model(args, train)
    if args.train_vision and args.cache_views and not model.config.use_conv_stem:
        raise ValueError(f"`cache_views` is {args.cache_views}; allowed with `train_vision`: 0, or a ViT with a stem.")
    freeze_for_stage_1(model, args.train_vision, bool(args.cache_views))
    processor = build_processor(model)
    image_size = model.config.vision_config.image_size
    multipliers = {"vision_model.": args.vision_lr_multiplier} if args.train_vision else None
    run = TrainingRun(args, model, learning_rate_multipliers=multipliers)

    def augmented(image, generator: torch.Generator):
        return augment(image, image_size, generator, args)

    def encode(images):
        pixel_values = processor(images, return_tensors="pt")["pixel_values"].to(run.device)
        with run.accelerator.autocast():
            return (model.get_vision_features(pixel_values).half().cpu(),)

    views = None
    if args.cache_views:
        model.to(run.device).eval()
        views = CachedViews(train, encode, augmented, args.cache_views, args.seed)

    def transform(group: list[int], generator: torch.Generator):
        if views is None:
            image, caption, tags = train.draw(group, generator)
            image = augmented(image, generator)
        else:
            row, (image,) = views.draw(group, generator)
            caption, tags = draw_caption(row, generator), row.get("tags") or []
        return image, with_tags(caption, tags, args.tag_probability, generator)

    def collate(samples):
        images, captions = zip(*samples, strict=True)
        if views is None:
            inputs = {"pixel_values": processor(list(images), return_tensors="pt")["pixel_values"]}
        else:
            inputs = {"vision_features": torch.stack(images).float()}
        return {**inputs, **tokenize(tokenizer, list(captions), args.max_text_tokens)}

    cache = FeatureCache(run)

    def compute_loss(batch):
        output = run.model(**batch)
        to_learn, loss = cache.loss_of(output)
        found = (output.image_features @ output.text_features.t()).argmax(1)
        accuracy = found.eq(torch.arange(len(found), device=run.device)).float().mean()
        return to_learn, {"loss": loss, "accuracy": accuracy, "temperature": run.unwrapped_model.temperature}

    def save_final():
        run.unwrapped_model.save_pretrained(args.output_dir, max_shard_size="25MB")
        tokenizer.save_pretrained(args.output_dir)
        processor.save_pretrained(args.output_dir)

    run.fit(
        run.make_batches(train, transform=transform, collate_fn=collate),
        compute_loss,
        evaluate=lambda: evaluate_retrieval(run, processor, tokenizer, held_out, args),
        save_final=save_final,
        look_ahead=cache.look_ahead,
    )


if __name__ == "__main__":
    main()
