"""Checkpoint files in the forms of the releases, from the weights of the reference fixtures."""

import torch

from seed_hf.convert_image_tokenizer import STAGE_1_PREFIXES


def write_release(weights: dict[str, torch.Tensor], folder, kind: str) -> list:
    """SEED-1: three files, with training state beside the weights; SEED-2: one flat file. Returns the paths."""
    if kind == "seed-2":
        torch.save(weights, folder / "seed_quantizer.pt")
        return [folder / "seed_quantizer.pt"]
    vision = {key: value for key, value in weights.items() if key.startswith("visual_encoder.")}
    stage_1 = {key: value for key, value in weights.items() if key.startswith(STAGE_1_PREFIXES)}
    stage_2 = {key: value for key, value in weights.items() if key not in vision and key not in stage_1}
    torch.save({key.removeprefix("visual_encoder."): value for key, value in vision.items()}, folder / "eva_vit_g.pth")
    training = {"optimizer": {"state": {}}, "epoch": 9, "config": {"run": {"lr": 1e-4}}}
    torch.save({"model": stage_1, **training}, folder / "causal_qformer.pth")
    paths = [folder / "eva_vit_g.pth", folder / "causal_qformer.pth"]
    if stage_2:
        torch.save({"model": stage_2, **training}, folder / "seed_tokenizer.pth")
        paths.append(folder / "seed_tokenizer.pth")
    return paths


def assert_same_weights(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]):
    """Same names, dtypes and bits."""
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name
