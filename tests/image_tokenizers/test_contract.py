"""One contract for the image tokenizers of SEED and of other libraries, and each adapter beside its own model."""

import json

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny.other_tokenizers import CODEBOOK_SIZE, SIDE, adapt, build_model, save_toy, spread_codebook
from tiny.pictures import build_images, build_pipeline
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from seed_hf.edits import interpolate, nearest
from seed_hf.image_tokenizers import (
    ImageTokenizer,
    SeedAdapter,
    encode_images,
    find_image_tokenizer_files,
    load_image_tokenizer,
    seed_model,
)


OTHERS = ("janus", "emu3", "chameleon", "glm_image", "vqmodel")
KINDS = ("seed", *OTHERS)
IMAGES = build_images(6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("image_tokenizers")
    build_pipeline().save_pretrained(root / "seed")
    return {kind: root / kind if kind == "seed" else save_toy(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tokenizers(folders):
    """Each as it comes out of its folder."""
    sizes = {kind: None if kind == "seed" else SIDE for kind in KINDS}
    return {kind: load_image_tokenizer(folder, image_size=sizes[kind]) for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


def test_sizes_and_types(tokenizer):
    assert isinstance(tokenizer, ImageTokenizer)
    pixels = tokenizer.prepare(IMAGES)
    assert pixels.shape == (6, 3, tokenizer.image_size, tokenizer.image_size) and pixels.dtype == torch.float32
    codes = tokenizer.encode(pixels)
    assert codes.shape == (6, tokenizer.num_codes) and codes.dtype == torch.long
    assert codes.min() >= 0 and codes.max() < tokenizer.codebook_size and len(codes.unique(dim=0)) == 6
    latents, vectors = tokenizer.get_latents(pixels), tokenizer.get_code_vectors(codes)
    assert latents.shape == vectors.shape == (6, tokenizer.num_codes, latents.shape[-1])
    # what the codes are: the nearest to what is quantized
    book = tokenizer.get_code_vectors(torch.arange(tokenizer.codebook_size))
    distances = torch.cdist(latents, book.expand(6, -1, -1)) ** 2
    chosen = distances.gather(-1, codes[..., None])[..., 0]
    assert_equal_up_to_rounding(chosen + latents.square().mean(), distances.amin(-1) + latents.square().mean())


def test_a_batch_gives_the_codes_of_single_images(tokenizer):
    codes, single = encode_images(tokenizer, IMAGES), encode_images(tokenizer, IMAGES, batch_size=1)
    latents = tokenizer.get_latents(tokenizer.prepare(IMAGES))
    distances = [(latents - tokenizer.get_code_vectors(each)).square().sum(-1) for each in (codes, single)]
    assert_equal_up_to_rounding(*(each + latents.square().mean() for each in distances))
    assert (codes == single).double().mean() > 0.9


def test_images_come_back_at_their_size(tokenizer):
    codes = encode_images(tokenizer, IMAGES[:2])
    if not tokenizer.can_decode:
        with pytest.raises(ValueError, match=f"`decode` of a {tokenizer.name} is impossible"):
            tokenizer.decode(codes)
        return
    images = tokenizer.decode(codes)
    assert images.shape == tokenizer.prepare(IMAGES[:2]).shape and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0
    assert torch.equal(images, tokenizer.decode(codes))


def test_features_find_the_image(tokenizer):
    codes = encode_images(tokenizer, IMAGES)
    features = tokenizer.get_image_features(codes)
    assert_equal_up_to_rounding(features.norm(dim=1), torch.ones(6))
    assert (features @ features.T).argmax(1).tolist() == list(range(6))


def test_bad_inputs(tokenizer):
    side = tokenizer.image_size
    with pytest.raises(
        ValueError, match=rf"`pixel_values` has shape \(1, 3, 8, 8\); allowed: \(batch_size, 3, {side}"
    ):
        tokenizer.encode(torch.zeros(1, 3, 8, 8))
    pixels = tokenizer.prepare(IMAGES[:2])
    pixels[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of 2 images of `pixel_values` \(first: 1\)"):
        tokenizer.encode(pixels)
    assert (tokenizer.try_encode(pixels) >= 0).all(1).tolist() == [True, False]
    with pytest.raises(ValueError, match=f"`codes` holds {tokenizer.codebook_size}; allowed: "):
        tokenizer.get_image_features(torch.full((1, tokenizer.num_codes), tokenizer.codebook_size))
    with pytest.raises(ValueError, match=r"`codes` has shape \(1, 3\)"):
        tokenizer.decode(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("kind", OTHERS)
def test_a_saved_model_gives_the_codes_of_the_one_in_memory(kind, tokenizers):
    """And sizes are known without the weights."""
    model = build_model(kind)
    spread_codebook(adapt(kind, model))
    memory, loaded = adapt(kind, model), tokenizers[kind]
    pixels = memory.prepare(IMAGES)
    assert_equal_up_to_rounding(memory.get_latents(pixels), loaded.get_latents(pixels))
    assert (memory.encode(pixels) == loaded.encode(pixels)).double().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_without_weights(kind, folders, tokenizers):
    size = None if kind == "seed" else SIDE
    files, tokenizer = find_image_tokenizer_files(folders[kind], image_size=size), tokenizers[kind]
    for name in ("codebook_size", "num_codes", "image_size"):
        assert getattr(files, name) == getattr(tokenizer, name)


@torch.no_grad()
def test_codes_are_those_of_the_models_own_methods():
    pixels = adapt("janus", build_model("janus")).prepare(IMAGES)
    janus, chameleon, emu3 = (build_model(kind) for kind in ("janus", "chameleon", "emu3"))
    codes = adapt("janus", janus).encode(pixels)
    assert torch.equal(codes.flatten(), janus.encode(pixels).image_tokens)
    assert torch.equal(adapt("janus", janus).decode(codes), (janus.decode(codes) / 2 + 0.5).clamp(0, 1))
    assert torch.equal(adapt("chameleon", chameleon).encode(pixels).flatten(), chameleon.encode(pixels).image_tokens)
    codes = adapt("emu3", emu3).encode(pixels)
    grids = torch.stack(list(emu3.encode(pixels, torch.tensor([[SIDE, SIDE]] * 6)).image_tokens))
    assert torch.equal(codes, grids.flatten(1))
    assert torch.equal(adapt("emu3", emu3).decode(codes), (emu3.decode(grids) / 2 + 0.5).clamp(0, 1))
    vqmodel = build_model("vqmodel")
    latents = vqmodel.encode(pixels).latents
    codes = adapt("vqmodel", vqmodel).encode(pixels)
    assert torch.equal(codes.flatten(), vqmodel.quantize(latents)[2][2])
    decoded = (vqmodel.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    assert_equal_up_to_rounding(adapt("vqmodel", vqmodel).decode(codes), decoded)


@torch.no_grad()
def test_pixels_are_those_of_the_models_own_image_processors():
    """For squares of the size of the model, which they neither crop nor pad."""
    squares = [image.resize((SIDE, SIDE)) for image in IMAGES]
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    janus = JanusImageProcessorPil(size={"height": SIDE, "width": SIDE}, **half)
    chameleon = ChameleonImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    for kind, processor in (("janus", janus), ("chameleon", chameleon)):
        pixels = processor(squares, return_tensors="pt")["pixel_values"]
        assert_equal_up_to_rounding(adapt(kind, build_model(kind)).prepare(squares), pixels)
    model = build_model("glm_image")
    patches = {"patch_size": 4, "merge_size": 1, "temporal_patch_size": 1, "do_resize": False}
    inputs = GlmImageImageProcessorPil(**patches)(squares, return_tensors="pt")
    features = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
    adapter = adapt("glm_image", model)
    codes = adapter.encode(adapter.prepare(squares))
    assert (codes.flatten() == model.model.get_image_tokens(features.pooler_output)).double().mean() > 0.9


def test_the_folder_says_how_images_are_normalised(folders, tmp_path):
    folder = save_toy("vqmodel", tmp_path / "vqmodel")
    settings = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 255, "size": 999}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    tokenizer = load_image_tokenizer(folder, image_size=SIDE)
    pixels = tokenizer.prepare(IMAGES)
    assert 0 <= pixels.min() and pixels.max() <= 1
    # what it decodes is in the same units
    codes = tokenizer.encode(pixels)
    assert torch.equal(tokenizer.decode(codes), tokenizer._decode(codes).clamp(0, 1))


def test_what_cannot_be_loaded(folders, tmp_path):
    with pytest.raises(ValueError, match=r"`image_size` is 30; allowed: a multiple of 4"):
        load_image_tokenizer(folders["emu3"], image_size=30)
    with pytest.raises(ValueError, match=f"`image_size` is 32; allowed: {SIDE}, the only one"):
        load_image_tokenizer(folders["janus"], image_size=32)
    with pytest.raises(ValueError, match=r"`image_size` is 32; allowed: 28, the only one"):
        load_image_tokenizer(folders["seed"], image_size=32)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"is a 'llama'; allowed: an image tokenizer of SEED, or one of \['VQModel'"):
        load_image_tokenizer(tmp_path)
    # weights of another model, and none that are safetensors
    (tmp_path / "config.json").write_text((folders["janus"] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folders["chameleon"] / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"lacks \d+ weights of a JanusVQVAE"):
        load_image_tokenizer(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_image_tokenizer(tmp_path)


def test_what_only_seed_has(tokenizers):
    janus, seed = tokenizers["janus"], tokenizers["seed"]
    assert seed_model(seed, "captions") is seed.model is seed_model(seed.model, "captions")
    with pytest.raises(ValueError, match=r"a JanusVQVAE, which has no text side; allowed: an image tokenizer of SEED"):
        seed_model(janus, "text side")
    codes = encode_images(janus, IMAGES[:2])
    with pytest.raises(ValueError, match=r"a JanusVQVAE, which has no generation embeddings"):
        interpolate(janus, codes[0], codes[1], steps=3)
    # what needs only the codebook takes any
    vectors = janus.get_code_vectors(torch.arange(CODEBOOK_SIZE))
    distances = torch.cdist(vectors[:1], vectors)[0]
    assert nearest(janus, torch.tensor(0), k=1).item() == distances.topk(2, largest=False).indices[1].item()
    with pytest.raises(ValueError, match="`decode` needs a pipeline to draw with"):
        SeedAdapter(seed.model, seed.image_processor).decode(encode_images(seed, IMAGES[:1]))
