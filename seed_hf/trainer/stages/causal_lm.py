"""Stage 3: a causal language model learns to read and write codes, with LoRA (paper section 3.3)."""

from collections.abc import Sequence

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ...image_tokenizers import ImageTokenizer, SeedAdapter, load_image_tokenizer, seed_model
from ...inference import generate_texts
from ...mini.base_model import base_model_folder, load_base_tokenizer
from ...mini.emoji import question_texts
from ...mini.small_language_model import build_small_language_model, start_image_tokens, train_tokenizer
from ...models.modeling_seed import SeedForCausalLM
from ...models.pipeline_seed import SeedPipeline
from ...models.processing_seed import SeedProcessor
from ...models.tokenization_seed import SeedTokenizer
from ..grids import check_picture_decoder, picture_grid, spread
from ..packing import check_packing, collate_samples, model_inputs
from ..pairs import PairMaker, describe_captions, list_texts, word_f1
from ..run import TrainingRun
from ..settings import LanguageModelSettings, LoraSettings


PAIRS_AT_ONCE = 32


def build_model(settings: LanguageModelSettings, lora: LoraSettings, rows: Sequence[dict]):
    """Processor and model; the parts to train have gradients.

    Args:
        settings ([`~seed_hf.trainer.settings.LanguageModelSettings`]): Which model.
        lora ([`~seed_hf.trainer.settings.LoraSettings`]): How it is trained.
        rows (`Sequence[dict]`): Captions and codes to train on; a small language model takes its words from them.
    """
    if lora.init_adapter and not lora.lora_rank:
        raise ValueError(f"`init_adapter` is {lora.init_adapter!r}; allowed with `lora_rank` 0: none.")
    dtype = settings.base_dtype if lora.lora_rank else torch.float32
    if settings.init_model:
        processor, model, folder = _load_trained_model(settings, dtype)
    else:
        processor, model, folder = _build_new_model(settings, dtype, rows)
    if lora.lora_rank:
        model = add_lora(model, lora, folder, settings.language_model_revision)
    if settings.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    return processor, model


def _load_trained_model(settings: LanguageModelSettings, dtype: str | torch.dtype):
    """Processor, model and name of the folder to go on from."""
    folder = settings.init_model
    processor = SeedProcessor.from_pretrained(folder)
    processor.tokenizer.image_tokenizer_id = settings.image_tokenizer_id or settings.image_tokenizer
    model = SeedForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=settings.attn_implementation, image_tokenizer=None
    )
    return processor, model, folder


def _build_new_model(settings: LanguageModelSettings, dtype: str | torch.dtype, rows: Sequence[dict]):
    """Processor, model and name of a language model that is taught the image tokens, whose vectors are new."""
    image_tokenizer = load_image_tokenizer(settings.image_tokenizer)
    language_model, base_tokenizer, folder = _load_language_model(settings, dtype, rows)
    tokenizer = SeedTokenizer.from_base_tokenizer(
        base_tokenizer,
        codebook_size=image_tokenizer.codebook_size,
        num_query_tokens=image_tokenizer.num_codes,
        image_tokenizer_id=settings.image_tokenizer_id or settings.image_tokenizer,
    )
    processor = SeedProcessor(image_tokenizer.image_processor, tokenizer)
    embedding = settings.image_token_embedding
    model = SeedForCausalLM.from_language_model(
        language_model, tokenizer, image_token_embedding=embedding, **_codebook_of(image_tokenizer)
    )
    if settings.start_image_tokens:
        if embedding != "learned":
            raise ValueError(f"`start_image_tokens` with `image_token_embedding` {embedding!r}; allowed: 'learned'.")
        seed = seed_model(image_tokenizer, "image features near words, from which `start_image_tokens` starts")
        start_image_tokens(model, seed, torch.tensor([row["codes"] for row in rows]))
    return processor, model, folder


def _codebook_of(image_tokenizer: ImageTokenizer) -> dict:
    """What [`SeedForCausalLM`] takes the code vectors from: a model of SEED says more than its vectors."""
    if isinstance(image_tokenizer, SeedAdapter):
        return {"image_tokenizer": image_tokenizer.model}
    return {"codebook": image_tokenizer.get_code_vectors(torch.arange(image_tokenizer.codebook_size))}


def _load_language_model(settings: LanguageModelSettings, dtype: str | torch.dtype, rows: Sequence[dict]):
    """Language model, its tokenizer and its name: pretrained, or small with new weights."""
    is_smollm = settings.language_model == "smollm2"
    folder = str(base_model_folder()) if is_smollm else settings.language_model
    revision = settings.language_model_revision or "main"
    tokenizer = load_base_tokenizer() if is_smollm else AutoTokenizer.from_pretrained(folder, revision=revision)
    language_model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=settings.attn_implementation, revision=revision
    )
    if not settings.language_model_config:
        return language_model, tokenizer, folder
    texts = list_texts(rows) + (question_texts() if settings.whole_words else [])
    small_tokenizer = train_tokenizer(texts, settings.vocab_size, settings.whole_words)
    small = build_small_language_model(settings.language_model_config, small_tokenizer, language_model, tokenizer)
    small.set_attn_implementation(settings.attn_implementation)
    return small, small_tokenizer, folder


def add_lora(model: SeedForCausalLM, lora: LoraSettings, folder: str, revision: str | None = None) -> PeftModel:
    """LoRA in every linear layer of the language model; the image tokens' own weights are trained in full.

    Args:
        model ([`SeedForCausalLM`]): Changed in place.
        lora ([`~seed_hf.trainer.settings.LoraSettings`]): Sizes, and the adapter to start from.
        folder (`str`): Folder or Hub id of the language model, which the adapter names.
        revision (`str`, *optional*): Its commit.

    Raises:
        ValueError: If the adapter to start from is one of another model, or of another rank or scale.
    """
    config = LoraConfig(
        r=lora.lora_rank,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        task_type="CAUSAL_LM",
        revision=revision,
        **model.lora_settings(),
    )
    model.name_or_path = model.config._name_or_path = folder
    if model.image_embeddings is not None:
        # trained weights stay float32 whatever the frozen ones are
        model.image_embeddings.float()
    peft_model = get_peft_model(model, config)
    if lora.init_adapter:
        _load_adapter(peft_model, lora)
    return peft_model


def _load_adapter(peft_model: PeftModel, lora: LoraSettings) -> None:
    """Loads all of `init_adapter` or, where it does not fit, refuses it: PEFT says nothing of what it leaves out."""
    saved = PeftConfig.from_pretrained(lora.init_adapter)
    named = f"`init_adapter` {lora.init_adapter!r}"
    for flag, name in (("lora_rank", "r"), ("lora_alpha", "lora_alpha")):
        theirs, ours = getattr(saved, name, None), getattr(lora, flag)
        if theirs != ours:
            raise ValueError(f"{named} has {flag}={theirs}, and this run has {flag}={ours}; allowed: the same.")
    weights = load_peft_weights(lora.init_adapter)
    own = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    missing = sorted(own.keys() - weights.keys())
    unexpected = [] if missing else set_peft_model_state_dict(peft_model, weights).unexpected_keys
    if missing or unexpected:
        raise ValueError(f"{named} is one of another model: missing {missing[:3]}, unexpected {unexpected[:3]}.")


def enable_gradient_checkpointing(model: PreTrainedModel | PeftModel) -> None:
    """Computes activations again in the backward pass instead of keeping them."""
    # transformers 5.23 has given it a new name
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _pull_to_uniform(logits: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """What the cross-entropy to all tokens alike has beyond that to the target, as a mean over all targets.

    A share of it, added to a model's own mean loss, is `label_smoothing` of PyTorch's cross-entropy where `counted`.
    """
    logits = logits.float()
    excess = logits.gather(1, targets[:, None])[:, 0] - logits.mean(dim=1)
    return (excess * counted).mean()


class LanguageModelStage:
    """Stage 3, as [`~seed_hf.trainer.TrainingRun.fit`] takes it.

    Args:
        run ([`~seed_hf.trainer.TrainingRun`]): Run of a [`SeedForCausalLM`], or of it with LoRA.
        maker ([`~seed_hf.trainer.pairs.PairMaker`]): Makes a sequence of a row.
        rows (`Sequence[dict]`): Rows to train on, with codes.
        held_out (`list[dict]`): Rows to evaluate on, with codes.
        attn_implementation (`str`, defaults to `"sdpa"`): That of the model.
        pack_length (`int`, defaults to 0): Number of tokens of a row of several samples; 0 gives each a row.
        label_smoothing (`float`, defaults to 0): Share of the target that goes to all tokens alike, where it is text.
        picture_decoder (`str`, *optional*): Folder of a [`SeedPipeline`] that draws written codes at each evaluation.

    Raises:
        ValueError: If samples are to be packed and the model does not keep them apart, if `label_smoothing` is not in
            [0, 1), if `held_out` is empty, or if `picture_decoder` is no pipeline.
    """

    def __init__(
        self,
        run: TrainingRun,
        maker: PairMaker,
        rows: Sequence[dict],
        held_out: list[dict],
        *,
        attn_implementation: str = "sdpa",
        pack_length: int = 0,
        label_smoothing: float = 0.0,
        picture_decoder: str | None = None,
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {label_smoothing}; allowed: 0 to below 1.")
        if not held_out:
            raise ValueError("`held_out` is empty; allowed: at least one row, and images of flags do not count.")
        if picture_decoder:
            check_picture_decoder(picture_decoder)
        self.run, self.model = run, run.unwrapped_model
        self.maker, self.processor, self.held_out = maker, maker.processor, held_out
        self.attn_implementation, self.pack_length = attn_implementation, pack_length
        self.label_smoothing, self.picture_decoder = label_smoothing, picture_decoder
        if pack_length:
            probes = [maker.make(row, row["codes"], "caption") for row in (rows[0], rows[1])]
            check_packing(self.model.eval(), probes, self._pad_token_id, attn_implementation)

    @property
    def _pad_token_id(self) -> int:
        return self.processor.tokenizer.pad_token_id

    def collate(self, samples: list[dict]) -> dict[str, torch.Tensor]:
        """Samples as one batch, padded or packed."""
        return collate_samples(samples, self._pad_token_id, self.pack_length)

    def count_targets(self, batch: dict[str, torch.Tensor]) -> float:
        """Number of tokens that the mean loss of a batch is over."""
        return float((batch["labels"] != -100).sum())

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """Cross-entropy of the targets, and how many of the words and of the codes are right."""
        inputs = model_inputs(batch, self.attn_implementation, self.model.dtype)
        output = self.run.model(**inputs, target_logits_only=True, use_cache=False)
        targets = batch["labels"][:, 1:]
        is_target = targets != -100
        with torch.no_grad():
            is_right = output.logits.argmax(-1) == targets[is_target]
            of_image = batch["is_image"][:, 1:][is_target]
        loss = output.loss
        if self.label_smoothing:
            loss = loss + self.label_smoothing * _pull_to_uniform(output.logits, targets[is_target], ~of_image)
        return loss, {
            "text_accuracy": is_right[~of_image].float().mean(),
            "code_accuracy": is_right[of_image].float().mean(),
            "tokens": (batch["sample_ids"] > 0).sum(),
        }

    def evaluate(self) -> dict[str, float]:
        """Exact match and word F1 of greedy captions, and the loss of both tasks, on held-out images."""
        codes, prompt = [row["codes"] for row in self.held_out], self.processor.caption_prompt
        captions = generate_texts(self.model, self.processor, codes, prompt, batch_size=64, max_new_tokens=16)
        tqdm.write(describe_captions(captions, self.held_out, 12))
        pairs = [(caption, row["caption"]) for caption, row in zip(captions, self.held_out, strict=True)]
        results = {
            "caption_exact": sum(got == expected for got, expected in pairs) / len(pairs),
            "caption_word_f1": sum(word_f1(got, expected) for got, expected in pairs) / len(pairs),
        }
        results |= {f"{kind}_loss": self._held_out_loss(kind) for kind in ("caption", "image")}
        if self.picture_decoder and self.maker.settings.task == "both":
            self._draw_pictures()
        return results

    def _held_out_loss(self, kind: str) -> float:
        samples = [self.maker.make(row, row["codes"], kind) for row in self.held_out]
        losses = []
        for start in range(0, len(samples), PAIRS_AT_ONCE):
            batch = collate_samples(samples[start : start + PAIRS_AT_ONCE], self._pad_token_id)
            inputs = model_inputs({name: value.to(self.run.device) for name, value in batch.items()})
            losses.append(self.model(**inputs, target_logits_only=True, use_cache=False).loss.item())
        return sum(losses) / len(losses)

    def _draw_pictures(self) -> None:
        """What a diffusion model makes of images' own codes, and of those that the language model writes instead."""
        rows = [self.held_out[number] for number in spread(self.held_out, 8)]
        captions = [row["caption"] for row in rows]
        pipeline = SeedPipeline.from_pretrained(
            self.picture_decoder, language_model=self.model, processor=self.processor
        ).to(self.run.device)
        settings = {"generator": torch.Generator().manual_seed(0)}
        own = pipeline(codes=torch.tensor([row["codes"] for row in rows]), **settings).images
        written = pipeline(prompt=captions, generation_kwargs={"do_sample": False}, **settings).images
        pairs = [list(pair) for pair in zip(own, written, strict=True)]
        self.run.metrics.write_picture(
            self.run.step, "pictures", picture_grid(pairs, captions, ["own codes", "written"])
        )

    def save(self) -> None:
        """Saves model or adapter, configuration and processor in the output folder."""
        folder = self.run.args.output_dir
        # the image tokens' own rows are in `modules_to_save`; PEFT would look for a resized table in the LM's folder
        is_adapter = isinstance(self.model, PeftModel)
        settings = {"save_embedding_layers": False} if is_adapter else {"max_shard_size": "25MB"}
        self.model.save_pretrained(folder, **settings)
        self.processor.save_pretrained(folder)
        self.model.config.save_pretrained(folder)
