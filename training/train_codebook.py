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
"""

import argparse
import logging


import seed_hf_script  # isort: skip  # noqa: F401

import torch
from accelerate.utils import broadcast, gather
from torch.nn import functional as F
from transformers import AutoTokenizer, set_seed

from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedPipeline
from seed_hf.data.augmentation import add_augmentation_arguments, augment
from seed_hf.data.captioned_images import (
    CaptionedImages,
    add_data_arguments,
    all_captions,
    draw_caption,
    load_held_out,
    load_rows,
    open_image,
    reading_settings,
)
from seed_hf.data.view_cache import CachedViews
from seed_hf.evaluation.retrieval import retrieval_scores, tokenize
from seed_hf.evaluation.retrieval_metrics import codebook_use
from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments
from seed_hf.trainer.grids import picture_grid, retrieval_grid, spread
from seed_hf.trainer.targets import load_targets


logger = logging.getLogger(__name__)

TRAINED = ("quantizer", "reconstruction_decoder", "generation_decoder", "generation_head")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script and of every training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--init_model", required=True, help="SeedImageTokenizer folder of stage 1, with its tokenizer")
    model.add_argument(
        "--target_model", default="openai/clip-vit-large-patch14", help="makes the targets; 'own': init_model"
    )
    model.add_argument("--attn_implementation", default="sdpa", help="'eager' is faster for bf16 training on a CPU")
    model.add_argument("--trained_parts", nargs="+", choices=TRAINED, default=list(TRAINED), help="the rest is frozen")
    model.add_argument("--init_codebook_images", type=int, default=0, help="k-means start on so many images; 0 = none")
    model.add_argument("--picture_decoder", help="SeedPipeline folder: draw pictures from codes at each evaluation")
    data = parser.add_argument_group("data")
    add_data_arguments(data)
    data.add_argument("--max_text_tokens", type=int, default=32, help="captions are cut to it on the retrieval side")
    views_help = "encode so many augmented views of each image once, before training; 0 = encode every step"
    data.add_argument("--cache_views", type=int, default=0, help=views_help)
    add_augmentation_arguments(data)
    return parse_training_arguments(parser, argv)


def freeze_for_stage_2(model: SeedImageTokenizer, trained_parts: list[str] | tuple[str, ...] = TRAINED) -> None:
    """Only codebook, decoder blocks and generation head are trained; a moving-average codebook needs no gradient."""
    trained_codebook = model.quantizer.embedding.weight.requires_grad
    model.requires_grad_(False)
    for name in trained_parts:
        getattr(model, name).requires_grad_(True)
    model.quantizer.embedding.weight.requires_grad_(trained_codebook and "quantizer" in trained_parts)


@torch.no_grad()
def start_codebook(model: SeedImageTokenizer, batches, num_images: int, seed: int) -> None:
    """k-means centres of what the fresh encoder gives for the first images."""
    embeds = []
    while sum(map(len, embeds)) < num_images:
        embeds.append(gather(causal_embeds_of(model, next(batches)).float()))
    model.quantizer.init_codebook(torch.cat(embeds), generator=torch.Generator().manual_seed(seed))
    # rounding differs between machines; all go on with the codebook of the first process
    broadcast(dict(model.quantizer.state_dict()))


def causal_embeds_of(model: SeedImageTokenizer, batch: dict) -> torch.Tensor:
    """Cached causal embeddings of a batch, or those of its pictures."""
    if "causal_embeds" in batch:
        return batch["causal_embeds"].to(model.device)
    return model.get_causal_embeds(batch["pixel_values"].to(model.device))


def evaluate_codes(run: TrainingRun, processor, tokenizer, rows, targets, args) -> dict[str, float]:
    """Retrieval from codes, codebook use, and how near the generation embeddings come, on unseen pictures."""
    model, codes, captions, wanted = run.unwrapped_model, [], [], []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        images = [open_image(row) for row in part]
        pixel_values = processor(images, return_tensors="pt")["pixel_values"].to(model.device)
        codes.append(model.encode(pixel_values))
        captions += [row["caption"] for row in part]
        wanted.append(targets({"pixel_values": pixel_values, "captions": captions[-len(part) :]}))
    codes = torch.cat(codes)
    scores = codebook_use(codes, model.config.codebook_size)
    image_features = torch.cat([model.get_image_features(codes=part).pooler_output for part in codes.split(256)])
    scores |= retrieval_scores(model, tokenizer, image_features, captions, args.max_text_tokens)
    run.metrics.write_picture(
        run.step, "retrieval", retrieval_grid(model, tokenizer, image_features, rows, args.max_text_tokens)
    )
    if args.picture_decoder:
        draw_reconstructions(run, codes, rows, args.picture_decoder)
    generated = torch.cat([model.decode(part).float() for part in codes.split(256)])
    wanted = torch.cat(wanted).to(generated)
    scores["generation_mse"] = F.mse_loss(generated, wanted).item()
    rows_by_name = {caption: row for row, caption in enumerate(captions)}
    gallery = F.normalize(wanted[list(rows_by_name.values())].flatten(1), dim=-1)
    found = (F.normalize(generated.flatten(1), dim=-1) @ gallery.t()).argmax(1).tolist()
    names = list(rows_by_name)
    scores["generation_r1"] = 100 * sum(names[i] == c for i, c in zip(found, captions, strict=True)) / len(captions)
    return scores


def draw_reconstructions(run: TrainingRun, codes: torch.Tensor, rows: list[dict], picture_decoder: str) -> None:
    """Pictures beside what a diffusion model makes of their codes."""
    numbers = spread(rows, 8)
    pipeline = SeedPipeline.from_pretrained(picture_decoder, image_tokenizer=run.unwrapped_model).to(run.device)
    drawn = pipeline(codes=codes[numbers], generator=torch.Generator().manual_seed(0)).images
    pictures = [[open_image(rows[number]), image] for number, image in zip(numbers, drawn, strict=True)]
    grid = picture_grid(pictures, [rows[number]["caption"] for number in numbers], ["picture", "from its codes"])
    run.metrics.write_picture(run.step, "reconstructions", grid)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, save."""
    args = parse_args(argv)
    set_seed(args.seed)
    model = SeedImageTokenizer.from_pretrained(args.init_model, attn_implementation=args.attn_implementation)
    tokenizer = AutoTokenizer.from_pretrained(args.init_model)
    freeze_for_stage_2(model, args.trained_parts)
    size = model.config.vision_config.image_size
    processor = SeedImageProcessor.from_pretrained(args.init_model)
    train = CaptionedImages(load_rows(args.dataset, args.train_split, **reading_settings(args)))
    held_out = load_held_out(args.dataset, args.eval_split, **reading_settings(args))

    captions = all_captions(train.rows) + [row["caption"] for row in held_out]
    target_model = args.init_model if args.target_model == "own" else args.target_model
    targets = load_targets(target_model, model.config, captions)
    # what sees a micro-batch at a time
    fields = ("codebook_ema_decay", "code_contrastive_loss_weight", "generation_contrastive_loss_weight")
    by_micro_batch = any(getattr(model.config, field) for field in fields)
    settings = {"also_save": ("quantizer.embedding",), "by_micro_batch": by_micro_batch}
    run = TrainingRun(args, model, frozen=[targets.module], **settings)

    if model.config.codebook_ema_decay and run.accumulation_steps > 1:
        logger.warning("codebook_ema_decay: the moving average moves with each of the accumulated micro-batches.")

    def augmented(image, generator):
        return augment(image, size, generator, args)

    def transform(group, generator):
        image, caption, _ = train.draw(group, generator)
        return augmented(image, generator), caption

    def collate(samples):
        images, captions = zip(*samples, strict=True)
        batch = {"captions": list(captions)}
        if isinstance(images[0], torch.Tensor):
            batch["causal_embeds"] = torch.stack(images).float()
        else:
            batch["pixel_values"] = processor(list(images), return_tensors="pt")["pixel_values"]
        if "quantizer" not in args.trained_parts:
            return batch  # captions are for the contrastive loss through the codes, which then stay as they are
        return {**batch, **tokenize(tokenizer, list(captions), args.max_text_tokens)}

    data = train
    if args.cache_views:
        if model.config.generation_head != "text":
            raise ValueError(f"cache_views={args.cache_views} leaves no pictures to make targets of; allowed here: 0.")
        model.to(run.device).eval()

        def encode(images):
            pixel_values = processor(images, return_tensors="pt")["pixel_values"].to(run.device)
            with run.accelerator.autocast():
                return (model.get_causal_embeds(pixel_values).half().cpu(),)

        data = CachedViews(train, encode, augmented, args.cache_views, args.seed)

        def transform(group, generator):
            row, (embeds,) = data.draw(group, generator)
            return embeds, draw_caption(row, generator)

    batches = lambda: run.make_batches(data, transform=transform, collate_fn=collate)  # noqa: E731
    if args.init_codebook_images and run.step == 0:
        start_codebook(run.unwrapped_model, batches(), args.init_codebook_images, args.seed)

    def compute_loss(batch):
        wanted = targets(batch).to(run.device)
        batch.pop("captions")
        output = run.model(**batch, generation_targets=wanted)
        parts = ("quantizer_loss", "reconstruction_loss", "generation_loss", "contrastive_loss")
        return output.loss, {
            **{name: output[name] for name in parts if output.get(name) is not None},
            **codebook_use(run.accelerator.gather(output.codes), model.config.codebook_size),
        }

    def save_final():
        for part in (run.unwrapped_model, tokenizer, processor):
            extra = {"max_shard_size": "25MB"} if part is run.unwrapped_model else {}
            part.save_pretrained(args.output_dir, **extra)

    run.fit(
        batches(),
        compute_loss,
        evaluate=lambda: evaluate_codes(run, processor, tokenizer, held_out, targets, args),
        save_final=save_final,
    )


if __name__ == "__main__":
    main()
