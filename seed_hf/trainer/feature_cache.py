"""Contrastive loss of a batch that does not fit into memory (GradCache): features first, gradients in a second pass.

Accumulating the gradients of small batches is not the same, since each sample would only see the negatives of its own
small batch. Here the negatives are those of the whole global batch, at the price of a second forward pass through what
is trained: a frozen ViT runs once, and what it gives is kept in between.
"""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from ..models.losses_seed import contrastive_loss
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


Batch = dict[str, torch.Tensor]


class FeatureCache:
    """Contrastive loss over all micro-batches and processes of an optimizer update.

    Give [`FeatureCache.look_ahead`] to [`~seed_hf.trainer.run.TrainingRun.fit`] and let `compute_loss` return what
    [`FeatureCache.loss_of`] gives. With a single micro-batch everything stays as it is.

    Args:
        model ([`SeedImageTokenizer`]): Model with a text tower, not prepared.
        accelerator (`Accelerator`): That of the run.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (arXiv 2101.06983),
    section 3. Dropout is the same in both passes, since it is seeded by micro-batch.
    """

    def __init__(self, model: SeedImageTokenizer, accelerator: Accelerator):
        self.model, self.accelerator = model, accelerator
        self._loss: torch.Tensor | None = None
        self._gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._num_micro_batches = 1
        self._temperature_gradient: torch.Tensor | None = None
        vision = model.vision_model
        weights = (*vision.embeddings.parameters(), *vision.encoder.parameters())
        self._keeps_vision = not any(weight.requires_grad for weight in weights)

    def look_ahead(self, micro_batches: Sequence[Batch], seed: Callable[[int], None]) -> list[Batch]:
        """First pass: features of all micro-batches, and the gradient of the loss with respect to each of them.

        Args:
            micro_batches (`Sequence[dict[str, torch.Tensor]]`): Keyword arguments of the model, on the CPU.
            seed (`Callable`): Seeds whatever is random in the micro-batch of a number.

        Returns:
            `list[dict[str, torch.Tensor]]`: The micro-batches for the second pass: with what a frozen ViT has given
            in place of pixels.
        """
        kept, features = [], []
        for index, batch in enumerate(micro_batches):
            seed(index)
            batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
            with torch.no_grad(), self.accelerator.autocast():
                if self._keeps_vision and "pixel_values" in batch:
                    batch["vision_features"] = self.model.get_vision_features(batch.pop("pixel_values"))
                output = self.model(**batch)
            kept.append(batch if self._keeps_vision else micro_batches[index])
            features.append((output.image_features, output.text_features))
        self._differentiate(features)
        return kept

    def _differentiate(self, features: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Loss of all features together, and its gradients."""
        sizes = [len(image_features) for image_features, _ in features]
        images, texts = (torch.cat(parts).requires_grad_() for parts in zip(*features, strict=True))
        config, temperature = self.model.config, self.model.temperature
        loss = contrastive_loss(images, texts, temperature, config.label_smoothing, config.contrastive_gather)
        of_images, of_texts, of_temperature = torch.autograd.grad(loss, (images, texts, temperature))
        self._gradients = list(zip(of_images.split(sizes), of_texts.split(sizes), strict=True))
        self._num_micro_batches = len(features)
        self._loss, self._temperature_gradient = loss.detach(), of_temperature

    def loss_of(self, output) -> tuple[torch.Tensor, torch.Tensor]:
        """Second pass: what to back-propagate for the next micro-batch, and the loss to show.

        Args:
            output ([`SeedImageTokenizerOutput`]): Output of this micro-batch, in the order of
                [`FeatureCache.look_ahead`].

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: A scalar whose gradient, averaged over micro-batches and processes, is
            that of the loss of the whole batch; and that loss (of this process's rows).
        """
        if self._loss is None:
            return output.loss, output.loss.detach()
        of_images, of_texts = self._gradients.pop(0)
        products = (output.image_features * of_images).sum() + (output.text_features * of_texts).sum()
        # the gradient of the temperature is that of the whole batch already; those of features are its parts
        surrogate = self._num_micro_batches * products + self.model.temperature * self._temperature_gradient
        return surrogate, self._loss
