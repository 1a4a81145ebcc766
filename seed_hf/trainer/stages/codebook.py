"""Stage 2: codebook, decoder blocks and generation head (paper section 3.2)."""

from collections.abc import Iterator, Sequence

import torch
from accelerate.utils import broadcast, gather
from torch.nn import functional as F
from transformers.utils import logging

from ...data.captioned_images import open_image
from ...evaluation.retrieval_metrics import codebook_use
from ...models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ...models.pipeline_seed import SeedPipeline
from ..grids import check_picture_decoder, picture_grid, spread
from ..run import TrainingRun
from ..settings import TRAINED_IN_STAGE_2
from .images import ROWS_AT_ONCE, ImageStage


logger = logging.get_logger(__name__)


def freeze_for_stage_2(model: SeedImageTokenizer, trained_parts: Sequence[str] = TRAINED_IN_STAGE_2) -> None:
    """Only codebook, decoder blocks and generation head are trained; a moving-average codebook needs no gradient.

    Args:
        model ([`SeedImageTokenizer`]): Changed in place.
        trained_parts (`Sequence[str]`): Names of the parts to train.
    """
    trained_codebook = model.quantizer.embedding.weight.requires_grad
    model.requires_grad_(False)
    for name in trained_parts:
        getattr(model, name).requires_grad_(True)
    model.quantizer.embedding.weight.requires_grad_(trained_codebook and "quantizer" in trained_parts)


def run_settings(model: SeedImageTokenizer) -> dict:
    """Further arguments of [`~seed_hf.trainer.TrainingRun`]: a codebook may move without a gradient, and some losses
    see a micro-batch at a time."""
    fields = ("codebook_ema_decay", "code_contrastive_loss_weight", "generation_contrastive_loss_weight")
    by_micro_batch = any(getattr(model.config, field) for field in fields)
    return {"also_save": ("quantizer.embedding",), "by_micro_batch": by_micro_batch}


class CodebookStage(ImageStage):
    """Stage 2, as [`~seed_hf.trainer.TrainingRun.fit`] takes it.

    Args:
        run ([`~seed_hf.trainer.TrainingRun`]): Run of a [`SeedImageTokenizer`].
        args: See [`~seed_hf.trainer.stages.images.ImageStage`].
        targets: See [`~seed_hf.trainer.targets.load_targets`].
        picture_decoder (`str`, *optional*): Folder of a [`SeedPipeline`] that draws from codes at each evaluation.
        prototypes (`list[str]`, *optional*): Captions whose targets the saved model turns generation embeddings
            towards; see [`~SeedImageTokenizer.use_prototypes`].
        num_cached_views (`int`, defaults to 0): See [`~seed_hf.trainer.stages.images.ImageStage`].
        kwargs: See [`~seed_hf.trainer.stages.images.ImageStage`].

    Raises:
        ValueError: If views are cached, or prototypes asked for, while the targets are made of images; if targets of
            all captions, which prototypes are, do not fit into memory.
    """

    frozen_part, cached_input = "get_causal_embeds", "causal_embeds"

    def __init__(
        self,
        run: TrainingRun,
        *args,
        targets,
        picture_decoder: str | None = None,
        prototypes: Sequence[str] = (),
        num_cached_views: int = 0,
        **kwargs,
    ):
        config = run.unwrapped_model.config
        if num_cached_views and config.generation_head != "text":
            raise ValueError(f"cache_views={num_cached_views} leaves no images to make targets of; allowed here: 0.")
        if prototypes and getattr(targets, "known", None) is None:
            number, head = len(set(prototypes)), config.generation_head
            raise ValueError(
                f"prototypes=True with generation_head={head!r} and {number} captions; allowed: 'text', and captions "
                "whose targets fit into memory."
            )
        if picture_decoder:
            check_picture_decoder(picture_decoder)
        if config.codebook_ema_decay and run.accumulation_steps > 1:
            logger.warning("codebook_ema_decay: the moving average moves with each of the accumulated micro-batches.")
        super().__init__(run, *args, num_cached_views=num_cached_views, **kwargs)
        self.targets, self.picture_decoder, self.prototypes = targets, picture_decoder, prototypes
        # what image features of codes depend on
        parts = (self.model.quantizer, self.model.reconstruction_decoder)
        self.trains_features = any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def collate(self, samples: list[tuple]) -> dict:
        """Arguments of the model, and the captions to make targets of."""
        views, captions, _ = zip(*samples, strict=True)
        batch = {"captions": list(captions), **self.image_inputs(list(views))}
        # the contrastive loss through the codes is of no use where features of codes stay as they are
        return {**batch, **self.text_inputs(list(captions))} if self.trains_features else batch

    @torch.no_grad()
    def start_codebook(self, batches: Iterator[dict], num_images: int) -> None:
        """Starts the codebook at the k-means centres of what the new encoder gives for some images.

        Args:
            batches (`Iterator[dict]`): Batches of [`CodebookStage.collate`].
            num_images (`int`): Number of images, over all processes.
        """
        embeds = []
        while sum(map(len, embeds)) < num_images:
            embeds.append(gather(self._causal_embeds(next(batches)).float()))
        generator = torch.Generator().manual_seed(self.run.args.seed)
        self.model.quantizer.init_codebook(torch.cat(embeds), generator=generator)
        # rounding differs between machines; all go on with the codebook of the first process
        broadcast(dict(self.model.quantizer.state_dict()))

    def _causal_embeds(self, batch: dict) -> torch.Tensor:
        if self.is_cached:
            return batch["causal_embeds"].to(self.model.device)
        return self.model.get_causal_embeds(batch["pixel_values"].to(self.model.device))

    def compute_loss(self, batch: dict) -> tuple[torch.Tensor, dict]:
        """The objective of stage 2, its parts, and how many codes are in use."""
        targets = self.targets(batch).to(self.run.device)
        batch.pop("captions")
        output = self.run.model(**batch, generation_targets=targets)
        names = ("quantizer_loss", "reconstruction_loss", "generation_loss", "contrastive_loss")
        parts = {name: output[name] for name in names if output.get(name) is not None}
        codes = self.run.accelerator.gather(output.codes)
        return output.loss, {**parts, **codebook_use(codes, self.model.config.codebook_size)}

    def evaluate(self) -> dict[str, float]:
        """Retrieval from codes, codebook use, and how near the generation embeddings come, on held-out images."""
        codes, targets = [], []
        for rows, pixel_values in self.held_out_batches():
            codes.append(self.model.encode(pixel_values))
            captions = [row["caption"] for row in rows]
            targets.append(self.targets({"pixel_values": pixel_values, "captions": captions}))
        codes = torch.cat(codes)
        parts = codes.split(ROWS_AT_ONCE)
        features = torch.cat([self.model.get_image_features(codes=part).pooler_output for part in parts])
        scores = codebook_use(codes, self.model.config.codebook_size) | self.measure_retrieval(features)
        if self.picture_decoder:
            self._draw_reconstructions(codes)
        generated = torch.cat([self.model.decode(part).float() for part in parts])
        captions = [row["caption"] for row in self.held_out]
        return scores | generation_scores(generated, torch.cat(targets).to(generated), captions)

    def save(self) -> None:
        """Saves model, tokenizer and processor in the output folder."""
        if self.prototypes:
            self.model.use_prototypes(self.targets({"captions": sorted(set(self.prototypes))}))
        super().save()

    def _draw_reconstructions(self, codes: torch.Tensor) -> None:
        """Images beside what a diffusion model makes of their codes."""
        numbers = spread(self.held_out, 8)
        pipeline = SeedPipeline.from_pretrained(self.picture_decoder, image_tokenizer=self.model).to(self.run.device)
        drawn = pipeline(codes=codes[numbers], generator=torch.Generator().manual_seed(0)).images
        rows = [self.held_out[number] for number in numbers]
        pictures = [[open_image(row), picture] for row, picture in zip(rows, drawn, strict=True)]
        grid = picture_grid(pictures, [row["caption"] for row in rows], ["image", "from its codes"])
        self.run.metrics.write_picture(self.run.step, "reconstructions", grid)


def generation_scores(generated: torch.Tensor, targets: torch.Tensor, captions: list[str]) -> dict[str, float]:
    """How near generation embeddings come to their targets.

    Args:
        generated (`torch.FloatTensor` of shape `(num_images, ...)`): Generation embeddings.
        targets (`torch.FloatTensor` of the same shape): What they should be.
        captions (`list[str]`): Caption of each image; of images with equal captions one target counts.

    Returns:
        `dict[str, float]`: `generation_mse`, and `generation_r1`, the percentage with the right nearest target.
    """
    number_of = {caption: number for number, caption in enumerate(captions)}
    gallery = F.normalize(targets[list(number_of.values())].flatten(1), dim=-1)
    nearest = (F.normalize(generated.flatten(1), dim=-1) @ gallery.t()).argmax(1).tolist()
    names = list(number_of)
    num_right = sum(names[index] == caption for index, caption in zip(nearest, captions, strict=True))
    mse = F.mse_loss(generated, targets).item()
    return {"generation_mse": mse, "generation_r1": 100 * num_right / len(captions)}
