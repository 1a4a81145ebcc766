"""What a report card of an image tokenizer says: how its codes are used, and whether the model keeps its promises."""

import math
from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..edits import code_log_probs
from ..image_tokenizers import SeedAdapter, as_image_tokenizer, encode_images, images_at_once, in_dtype
from ..models.image_tokens_seed import check_codes
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


# beyond these something is broken, not only weak; each is far from what seed-mini and the paper's numbers show
MIN_SHARE_USED = 0.05
MAX_SHARED_INFORMATION = 0.9
MAX_QUERY_SIMILARITY = 0.99
MAX_LEAK = 1e-3
MAX_RELATIVE_ERROR = 1.0
BATCH_SIZE = 32
# an image can have thousands of codes: at most this many places, spread over all of them, are compared pair by pair
MAX_PLACES_COMPARED = 64


def describe_codes(codes: torch.LongTensor, codebook_size: int, per_place: bool = False) -> dict[str, Any]:
    """
    Says how codes are used, from the codes alone.

    Args:
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes in `[0, codebook_size)`.
        codebook_size (`int`): Number of codes in the codebook.
        per_place (`bool`, defaults to `False`): Whether each place has its own part of the codebook.

    Returns:
        `dict`: `places`, for each place `num_used`, `share_used` (of what may stand there), `entropy`, `perplexity`,
        `information_from_the_left` (what the code before tells about it) and `conditional_entropy` (what is left of
        its entropy then); and of all codes `dead_codes`, `perplexity`, `bits_per_image` (sum of the entropies),
        `conditional_bits_per_image`, `most_bits_per_image`, `shared_information` (the two
        places that tell most about each other, 1 if one decides the other) and `equal_images` (images whose codes
        another image has, too). Entropies and information in bits. With few images, entropies come out too low.

    Raises:
        ValueError: Wrong codes, or fewer than two images.
    """
    codes = check_codes(codes, codebook_size).cpu()
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(
            f"`codes` has shape {tuple(codes.shape)}; allowed: (num_images, num_codes) of 2 images or more."
        )
    num_codes = codes.shape[1]
    size = codebook_size // num_codes if per_place else codebook_size
    places = []
    for place in range(num_codes):
        column = codes[:, place]
        entropy = _entropy(column)
        left = _information(codes[:, place - 1], column) if place else 0.0
        places.append(
            {
                "num_used": len(column.unique()),
                "share_used": len(column.unique()) / size,
                "entropy": entropy,
                "perplexity": 2**entropy,
                "information_from_the_left": left,
                "conditional_entropy": max(0.0, entropy - left),
            }
        )
    return {
        "num_images": len(codes),
        "num_codes": num_codes,
        "codebook_size": codebook_size,
        "codes_per_place": size,
        "places": places,
        "dead_codes": codebook_size - len(codes.unique()),
        "perplexity": 2 ** _entropy(codes.flatten()),
        "bits_per_image": sum(place["entropy"] for place in places),
        "conditional_bits_per_image": sum(place["conditional_entropy"] for place in places),
        "most_bits_per_image": num_codes * float(np.log2(size)),
        "shared_information": _most_shared(codes),
        "equal_images": len(codes) - len(codes.unique(dim=0)),
    }


def _entropy(values: torch.Tensor) -> float:
    share = values.unique(return_counts=True)[1].double() / len(values)
    return -(share * share.log2()).sum().item()


def _information(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mutual information in bits, less what pairs by chance would seem to have."""
    joint = _entropy(first * (int(second.max()) + 1) + second)
    shuffled = second[torch.randperm(len(second), generator=torch.Generator().manual_seed(0))]
    by_chance = _entropy(first * (int(second.max()) + 1) + shuffled)
    return max(0.0, by_chance - joint)


def _most_shared(codes: torch.Tensor) -> dict[str, Any]:
    """The two places that tell most about each other, as a share of what they could tell at most."""
    best = {"places": None, "share": 0.0}
    places = range(0, codes.shape[1], -(-codes.shape[1] // MAX_PLACES_COMPARED))
    for number, second in enumerate(places):
        for first in places[:number]:
            # without what is there by chance, even the information of a place about itself is below its entropy;
            # below one bit there are too few images to tell
            most = _information(codes[:, first], codes[:, first])
            share = _information(codes[:, first], codes[:, second]) / most if most > 1 else 0.0
            if share > best["share"]:
                best = {"places": [first, second], "share": min(1.0, share)}
    return best


def ask_language_model(language_model: Any, processor: Any, model: Any, codes: torch.LongTensor) -> dict[str, Any]:
    """
    Says how many bits a language model needs for a code when it knows all codes before it: at least the conditional
    entropy, and the nearer to it the better the language model.

    Args:
        language_model ([`SeedForCausalLM`]): Knows the codes of `model`.
        processor ([`SeedProcessor`]): Its own.
        model ([`SeedImageTokenizer`] or [`ImageTokenizer`]): The image tokenizer.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes in `[0, codebook_size)`.

    Returns:
        `dict`: `places`, the bits of each place, `bits_per_code` and `bits_per_image`: means over images.

    Raises:
        ValueError: The language model knows other codes.
    """
    layout, tokenizer = language_model.config.image_token_layout, as_image_tokenizer(model)
    known, wanted = (layout.codebook_size, layout.num_query_tokens), (tokenizer.codebook_size, tokenizer.num_codes)
    if known != wanted:
        raise ValueError(
            f"`language_model` knows a codebook of {known[0]} and {known[1]} codes an image; allowed: {wanted[0]} and "
            f"{wanted[1]}, as the image tokenizer has."
        )
    parts = SimpleNamespace(language_model=language_model, processor=processor, image_tokenizer=model)
    bits = torch.cat([code_log_probs(parts, part) for part in codes.split(BATCH_SIZE)]).double() / -math.log(2)
    return {
        "places": bits.mean(0).tolist(),
        "bits_per_code": bits.mean().item(),
        "bits_per_image": bits.sum(1).mean().item(),
    }


@torch.no_grad()
def probe_model(model: Any, processor: Any, images: list[Image.Image]) -> dict[str, Any]:
    """
    Tries an image tokenizer on images.

    Args:
        model ([`SeedImageTokenizer`] or [`ImageTokenizer`]): In float32 and evaluation mode.
        processor ([`SeedImageProcessor`], *optional*): That of a [`SeedImageTokenizer`]; others have their own.
        images (`list[PIL.Image.Image]`): RGB.

    Returns:
        `dict`: `codes` `(num_images, num_codes)`; `stability`, the share of equal codes after JPEG, resizing, in
        bfloat16 and one image at a time; `relative_error`, the squared distance of what is quantized to its code,
        relative to its variance; and of an image tokenizer of SEED `similar_queries`, the two places whose causal
        embeddings vary most alike, and their correlation; `equal_queries`, the two places whose queries are most
        alike, and their cosine; `leak`, how far changing a query moves the causal embeddings before it, relative to
        how far it moves its own; and `prefixes`, for each number of first codes the share of images whose feature
        from these finds the image's own among all.
    """
    tokenizer = SeedAdapter(model, processor) if isinstance(model, SeedImageTokenizer) else model
    codes = encode_images(tokenizer, images)
    probes = {
        "codes": codes,
        "stability": _stability(tokenizer, images[:64], codes[:64]),
        "relative_error": _relative_error(tokenizer, images, codes),
    }
    if not isinstance(tokenizer, SeedAdapter):
        return probes
    pixels = tokenizer.prepare(images[:64]).to(tokenizer.device)
    return probes | {
        "similar_queries": _similar_queries(tokenizer.model, pixels),
        "equal_queries": _equal_queries(tokenizer.model),
        "leak": _leak(tokenizer.model, pixels[:8]),
        "prefixes": _prefixes(tokenizer.model, codes),
    }


def _stability(tokenizer, images, codes) -> dict[str, float]:
    def after(change: Callable[[Image.Image], Image.Image]) -> torch.Tensor:
        return encode_images(tokenizer, [change(image) for image in images])

    side = tokenizer.image_size
    others = {
        "JPEG, quality 75": lambda: after(_as_jpeg),
        f"resized to {side // 2} px before": lambda: after(lambda image: image.resize((side // 2, side // 2))),
        "bfloat16": lambda: encode_images(in_dtype(tokenizer, torch.bfloat16), images),
        "one image at a time": lambda: encode_images(tokenizer, images, batch_size=1),
    }
    return {name: (get_codes() == codes).double().mean().item() for name, get_codes in others.items()}


def _as_jpeg(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def _similar_queries(model: Any, pixels: torch.Tensor) -> dict[str, Any]:
    embeds = model.get_causal_embeds(pixels).float()
    places, correlation = _most_alike((embeds - embeds.mean(0)).transpose(0, 1).flatten(1))
    return {"places": places, "correlation": correlation}


def _equal_queries(model: Any) -> dict[str, Any]:
    places, cosine = _most_alike(model.causal_qformer.query_tokens[0].float())
    return {"places": places, "cosine": cosine}


def _most_alike(rows: torch.Tensor) -> tuple[list[int], float]:
    """The two rows of the smallest angle, and its cosine."""
    rows = torch.nn.functional.normalize(rows, dim=1)
    cosines = (rows @ rows.t()).masked_fill(torch.ones(len(rows), len(rows), dtype=torch.bool).triu(), -torch.inf)
    best = int(cosines.argmax())
    second, first = divmod(best, len(rows))
    return [first, second], cosines.flatten()[best].item()


def _leak(model: Any, pixels: torch.Tensor) -> float:
    """Changes the query in the middle and the last one, and looks at what is before them."""
    before, queries = model.get_causal_embeds(pixels), model.causal_qformer.query_tokens
    original, worst = queries.detach().clone(), 0.0
    for place in {len(before[0]) // 2, len(before[0]) - 1}:
        # a copy of another query, since a constant shift would be removed by the layer norm that follows
        queries[:, place] = original[:, 0] if place else original[:, -1]
        moved = (model.get_causal_embeds(pixels) - before).abs()
        queries.copy_(original)
        own = moved[:, place].max().item()
        worst = max(worst, moved[:, :place].max().item() / own if place and own > 0 else 0.0)
    return worst


def _relative_error(tokenizer: Any, images: list[Image.Image], codes: torch.Tensor) -> float:
    """From sums, since what is quantized of all images may not fit the memory."""
    error, total, squares, parts = 0.0, 0.0, 0.0, range(0, len(images), images_at_once(tokenizer))
    for start in parts:
        part = slice(start, start + parts.step)
        pixels = tokenizer.prepare(images[part]).to(tokenizer.device, tokenizer.dtype)
        latents = tokenizer.get_latents(pixels).double()
        error += (latents - tokenizer.get_code_vectors(codes[part])).square().sum().item() / latents[0].numel()
        total, squares = total + latents.sum(0), squares + latents.square().sum(0)
    variance = ((squares - total**2 / len(images)) / max(1, len(images) - 1)).mean()
    return error / len(images) / max(1e-12, variance.item())


def _prefixes(model: Any, codes: torch.Tensor) -> dict[int, float] | None:
    """None where the model has no features of codes."""
    if not model.config.use_text_tower or not model.config.use_reconstruction_decoder:
        return None
    num_codes = codes.shape[1]
    counts = sorted({1, 2, *range(4, num_codes, max(1, num_codes // 8)), num_codes} & set(range(1, num_codes + 1)))
    features = {
        count: torch.cat(
            [
                model.get_image_features(codes=part.to(model.device)).pooler_output
                for part in codes[:, :count].split(256)
            ]
        )
        for count in counts
    }
    # images with equal codes cannot be told apart, and count as found
    own = torch.arange(len(codes), device=features[num_codes].device)
    shares = {}
    for count, rows in features.items():
        similarity = rows @ features[num_codes].t()
        is_found = similarity.gather(1, own[:, None])[:, 0] >= similarity.amax(1) - 1e-6
        shares[count] = is_found.double().mean().item()
    return shares


def find_faults(report: dict[str, Any]) -> list[dict[str, str]]:
    """
    Names what is broken.

    Args:
        report (`dict`): What [`describe_codes`] and, where there is a model, [`probe_model`] give, in one.

    Returns:
        `list[dict[str, str]]`: `name` and `text` of each fault; empty for a healthy image tokenizer.
    """
    faults = []
    places = report["places"]
    # so few images cannot use more than one code each
    most = min(1.0, report["num_images"] / report["codes_per_place"])
    weak = [place for place in places if place["share_used"] < MIN_SHARE_USED * most]
    if len(weak) > len(places) / 2:
        used = sum(place["share_used"] for place in places) / len(places)
        faults.append(("collapsed codebook", f"On average a place uses {100 * used:.1f} % of the codes that it may."))
    shared = report["shared_information"]
    if shared["places"] and shared["share"] > MAX_SHARED_INFORMATION:
        first, second = (place + 1 for place in shared["places"])
        text = f"Place {second} says what place {first} says ({100 * shared['share']:.0f} % of its information)."
        faults.append(("duplicated query", text))
    elif (similar := report.get("similar_queries")) and similar["correlation"] > MAX_QUERY_SIMILARITY:
        first, second = (place + 1 for place in similar["places"])
        text = f"Causal embeddings {first} and {second} vary alike (correlation {similar['correlation']:.3f})."
        faults.append(("duplicated query", text))
    elif (equal := report.get("equal_queries")) and equal["cosine"] > MAX_QUERY_SIMILARITY:
        first, second = (place + 1 for place in equal["places"])
        faults.append(("duplicated query", f"Query {second} is query {first} (cosine {equal['cosine']:.4f})."))
    if report.get("leak", 0.0) > MAX_LEAK:
        text = f"Changing a query moves the codes before it ({100 * report['leak']:.1f} % of its own change)."
        faults.append(("leaky mask", text))
    if report.get("relative_error", 0.0) > MAX_RELATIVE_ERROR:
        text = (
            f"What is quantized is {report['relative_error']:.1f} times its variance away from its codes: they are "
            "not those of this encoder."
        )
        faults.append(("stale codebook", text))
    return [{"name": name, "text": text} for name, text in faults]


__all__ = ["ask_language_model", "describe_codes", "find_faults", "probe_model"]
