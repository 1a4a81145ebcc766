"""Stage 1 against all names of a small data set at once, where names that mean nearly the same are no negatives."""

import torch
from torch.nn import functional as F

from ..evaluation.text_encoders import TextTargetEncoder
from ..inference import text_features
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


def similar_names(names: list[str], text_model: str | None = None, temperature: float = 0.05) -> torch.Tensor:
    """For each name a distribution over all, by the similarity that a frozen text encoder sees.

    Args:
        names (`list[str]`): Captions.
        text_model (`str`, *optional*): See [`~seed_hf.evaluation.text_encoders.TextTargetEncoder`].
        temperature (`float`, defaults to 0.05): Cosine similarities are divided by it.

    Returns:
        `torch.FloatTensor` of shape `(len(names), len(names))`: rows sum to one.
    """
    encoder = TextTargetEncoder(text_model)
    features = []
    for start in range(0, len(names), 64):
        part = names[start : start + 64]
        states = encoder(part)
        mask = encoder.tokenizer(
            part, padding="max_length", truncation=True, max_length=encoder.max_length, return_tensors="pt"
        )["attention_mask"].unsqueeze(-1)
        features.append((states * mask).sum(1) / mask.sum(1))
    features = F.normalize(torch.cat(features), dim=-1)
    return (features @ features.t() / temperature).softmax(dim=1)


class NameBank:
    """Text features of all names, so that each image is told from all of them and not only from those of its batch.

    The names of the batch have a gradient; the others are as they were at most `every` steps ago, without one.

    Args:
        model ([`SeedImageTokenizer`]): Model with a text tower.
        tokenizer: Its tokenizer.
        names (`list[str]`): Different captions.
        every (`int`): Steps between two looks at all names.
        similar (`torch.FloatTensor` of shape `(len(names), len(names))`, *optional*): See [`similar_names`].
        share (`float`, defaults to 0.0): Share of the target that goes to similar names.
    """

    def __init__(
        self,
        model: SeedImageTokenizer,
        tokenizer,
        names: list[str],
        every: int,
        similar: torch.Tensor | None = None,
        share: float = 0.0,
    ):
        self.model, self.tokenizer, self.names, self.every = model, tokenizer, names, every
        self.similar, self.share = similar, share
        self.numbers = {name: number for number, name in enumerate(names)}
        self._uses = 0

    @torch.no_grad()
    def refresh(self) -> None:
        """Looks at all names again."""
        was_training = self.model.training
        self.features = text_features(self.model.eval(), self.tokenizer, self.names).float().to(self.model.device)
        self.model.train(was_training)

    def loss(self, image_features: torch.Tensor, text_features: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Mean of both directions: images among all names, names among the images of the batch.

        Args:
            image_features (`torch.FloatTensor` of shape `(batch_size, dim)`): L2-normalised.
            text_features (`torch.FloatTensor` of shape `(batch_size, dim)`): L2-normalised.
            numbers (`torch.LongTensor` of shape `(batch_size,)`): Which name each row has.
        """
        if self._uses % self.every == 0:
            self.refresh()
        self._uses += 1
        images, texts = image_features.float(), text_features.float()
        temperature, smoothing = self.model.temperature, self.model.config.label_smoothing
        with torch.autocast(images.device.type, enabled=False):  # it would round the similarities to 16 bits
            bank = self.features.index_copy(0, numbers, texts)
            among_names = F.cross_entropy(images @ bank.t() / temperature, self._targets(numbers, smoothing))
            among_images = F.cross_entropy(
                texts @ images.t() / temperature, torch.arange(len(numbers), device=images.device),
                label_smoothing=smoothing,
            )  # fmt: skip
        return 0.5 * (among_names + among_images)

    def _targets(self, numbers: torch.Tensor, smoothing: float) -> torch.Tensor:
        own = F.one_hot(numbers, len(self.names)).float()
        if self.similar is not None and self.share:
            others = self.similar.to(numbers.device)[numbers]
            return (1 - self.share) * own + self.share * others
        return (1 - smoothing) * own + smoothing / len(self.names)


__all__ = ["NameBank", "similar_names"]
