"""Contrastive loss of a batch that does not fit into memory (GradCache): features first, gradients in a second pass.

Accumulating the gradients of small batches is not the same, since each sample would only see the negatives of its own
small batch. Here the negatives are those of the whole global batch, at the price of a second forward pass through what
is trained: a frozen ViT runs once, and what it gives is kept in between.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device

from ..models.losses_seed import contrastive_loss


class FeatureCache:
    """Contrastive loss over all micro-batches and processes of an optimizer update.

    Give [`FeatureCache.look_ahead`] to [`~seed_hf.trainer.run.TrainingRun.fit`] and let `compute_loss` return what
    [`FeatureCache.loss_of`] gives. With a single micro-batch both leave everything as it is.

    Args:
        run ([`~seed_hf.trainer.run.TrainingRun`]): of a [`SeedImageTokenizer`] with a text tower.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (arXiv 2101.06983),
    section 3. Dropout is the same in both passes, since it is seeded by micro-batch.
    """

    def __init__(self, run):
        self.run = run
        self._loss: torch.Tensor | None = None
        self._gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._temperature_gradient: torch.Tensor | None = None
        vision = run.unwrapped_model.vision_model
        weights = (*vision.embeddings.parameters(), *vision.encoder.parameters())
        self._frozen_encoder = None if any(weight.requires_grad for weight in weights) else vision.encoder

    def look_ahead(self, micro_batches: Sequence[Mapping[str, Any]]) -> None:
        """First pass: features of all micro-batches, and the gradient of the loss with respect to each of them.

        Args:
            micro_batches (`Sequence[Mapping[str, Any]]`): keyword arguments of the model, on the CPU.
        """
        run, model = self.run, self.run.unwrapped_model
        encoder, encoded = self._frozen_encoder, []
        if encoder is not None:
            encode = encoder.forward
            encoder.forward = lambda *args, **kwargs: encoded.append(encode(*args, **kwargs)) or encoded[-1]
        features = []
        for index, batch in enumerate(micro_batches):
            run.update.seed(index)
            with torch.no_grad(), run.accelerator.autocast():
                output = model(**send_to_device(batch, run.device, non_blocking=True))
            features.append((output.image_features, output.text_features))
        sizes = [len(image_features) for image_features, _ in features]
        images, texts = (torch.cat(parts).requires_grad_() for parts in zip(*features, strict=True))
        config = model.config
        loss = contrastive_loss(images, texts, model.temperature, config.label_smoothing, config.contrastive_gather)
        of_images, of_texts, of_temperature = torch.autograd.grad(loss, (images, texts, model.temperature))
        self._gradients = list(zip(of_images.split(sizes), of_texts.split(sizes), strict=True))
        self._loss, self._temperature_gradient = loss.detach(), of_temperature
        if encoder is not None:
            encoder.forward = lambda *args, **kwargs: encoded.pop(0)

    def loss_of(self, output) -> tuple[torch.Tensor, torch.Tensor]:
        """Second pass: what to back-propagate for the next micro-batch, and the loss to show.

        Args:
            output ([`SeedImageTokenizerOutput`]): of this micro-batch, in the order of [`FeatureCache.look_ahead`].

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: a scalar whose gradient, averaged over micro-batches and processes, is
            that of the loss of the whole batch; and that loss (of this process's rows).
        """
        if self._loss is None:
            return output.loss, output.loss.detach()
        num_micro_batches = self.run.accumulation_steps
        of_images, of_texts = self._gradients.pop(0)
        if self._frozen_encoder is not None and not self._gradients:
            del self._frozen_encoder.forward  # the class's own again
        products = (output.image_features * of_images).sum() + (output.text_features * of_texts).sum()
        # the gradient of the temperature is that of the whole batch already; those of features are its parts
        surrogate = num_micro_batches * products + self.run.unwrapped_model.temperature * self._temperature_gradient
        return surrogate, self._loss
