"""Settings that stages take as a whole, and training scripts as flags. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """LoRA of stage 3; the defaults are those of SEED-LLaMA's vicuna_7b_lora.yaml."""

    _argument_group_name = "LoRA"

    lora_rank: int = HfArg(default=16, help="Rank; 0 trains every weight instead.")
    lora_alpha: float = HfArg(default=32, help="Scale of the adapter, divided by the rank.")
    lora_dropout: float = HfArg(default=0.05, help="Dropout in front of the adapter.")
    init_adapter: str | None = HfArg(
        default=None, help="Adapter folder to start from, such as that of the first part."
    )


@dataclass(frozen=True, kw_only=True)
class CompileSettings:
    """Whether a stage compiles its largest model; the flag has the name that transformers gives it."""

    _argument_group_name = "compilation"

    torch_compile: bool = HfArg(
        default=False,
        help="Compile each block of the ViT (stages 1 and 2) or of the language model (stage 3) with `torch.compile`.",
    )


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings:
    """Which language model stage 3 trains, and how it is loaded."""

    _argument_group_name = "language model"

    language_model: str = HfArg(default="facebook/opt-2.7b", help="Any causal language model; or `smollm2`.")
    language_model_revision: str | None = HfArg(
        default=None, help="Commit of the language model, which the saved adapter names too."
    )
    language_model_config: str | None = HfArg(
        default=None, help="Configuration file of a small language model with new weights, to train instead."
    )
    vocab_size: int = HfArg(default=3000, help="Number of words, and pieces of them, of that small language model.")
    whole_words: bool = HfArg(
        default=False,
        help="Every other word of captions, tags and questions is a token of it too, so that it writes none that does "
        "not exist.",
    )
    init_model: str | None = HfArg(
        default=None, help="SeedForCausalLM folder to go on from, image tokens and all (an adapter: --init_adapter)."
    )
    image_tokenizer: str = HfArg(help="Folder of a trained SeedImageTokenizer and its processor.")
    image_tokenizer_id: str | None = HfArg(
        default=None, help="What the saved tokenizer names; the value of --image_tokenizer unless given."
    )
    image_token_embedding: Literal["projected_codes", "learned"] = HfArg(
        default="projected_codes", help="Where the vectors of image tokens come from."
    )
    start_image_tokens: bool = HfArg(
        default=False, help="`learned` vectors of codes start as mean image features of the images that have them."
    )
    attn_implementation: str = HfArg(default="sdpa", help="`eager` is faster for bf16 training on a CPU.")
    base_dtype: str = HfArg(default="auto", help="Dtype of the frozen weights, such as `bfloat16`.")
    gradient_checkpointing: bool = HfArg(default=False, help="Takes 4/3 of the time and a tenth of the memory.")


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What stage 3 makes of an image and its caption."""

    _argument_group_name = "tasks"

    task: Literal["caption", "both"] = HfArg(
        default="both", help="`caption`: image to text only; `both`: also text to image."
    )
    image_ratio: float = HfArg(default=0.5, help="Share of text to image in `both` (SEED-LLaMA: 0.5).")
    question_ratio: float = HfArg(default=0.0, help="Share of questions among image to text.")
    unconditional_ratio: float = HfArg(default=0.0, help="Share of text to image without its caption.")
    tag_ratio: float = HfArg(default=0.0, help="Share of text to image with some tags after the caption.")
    mix_views: bool = HfArg(
        default=False, help="To read, take each code from any view of the image (the original has one view)."
    )
    mix_images: float = HfArg(
        default=0.0,
        help="Share of images to read of which half the codes are those of an image with the same caption.",
    )
    code_noise: float = HfArg(
        default=0.0, help="Share of the codes to read that are replaced by random ones (the original: none)."
    )
    max_text_tokens: int = HfArg(default=32, help="Captions are cut to this many tokens (LAVIS: 32).")


@dataclass(frozen=True, kw_only=True)
class ConditionSettings:
    """What the picture decoder draws from, a changed feature of a caption, and what it learns to predict."""

    _argument_group_name = "condition and noise"

    drop_condition: float = HfArg(default=0.1, help="Share of samples with the features of an empty caption.")
    tag_probability: float = HfArg(default=0.2, help="Share of captions followed by some tags.")
    condition_noise: float = HfArg(default=0.1, help="Standard deviation of the noise added to the condition.")
    name_noise: float = HfArg(
        default=0.0,
        help="Largest deviation of noise on a name's feature of unit length: the condition is the mean of what the "
        "name may be.",
    )
    code_ratio: float = HfArg(default=0.5, help="With --image_tokenizer: share of conditions decoded from codes.")
    high_noise: float = HfArg(
        default=1.0, help="Above 1: more steps of high noise, where the condition decides (uniform ** (1 / this))."
    )
    prediction_type: Literal["v_prediction", "epsilon"] = HfArg(
        default="v_prediction",
        help="What the UNet predicts: the velocity, under a schedule that ends at noise alone, or the noise, under "
        "Stable Diffusion's own. The saved scheduler says which.",
    )
    snr_gamma: float = HfArg(
        default=0.0,
        help="Min-SNR weights of the loss, cut at this signal-to-noise ratio (usual: 5); they take back what "
        "high_noise does. 0: every sample counts the same.",
    )


def check_shares(settings: object, *names: str) -> None:
    """
    Refuses shares that are none.

    Args:
        settings (`object`): Has them as attributes.
        names (`str`): Their names.

    Raises:
        ValueError: One is below 0 or above 1.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name}={getattr(settings, name)}; allowed: a number in [0, 1].")


TRAINED_IN_STAGE_2 = ("quantizer", "reconstruction_decoder", "generation_decoder", "generation_head")
