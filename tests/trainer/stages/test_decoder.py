"""What the picture decoder learns to draw from: names of which one cannot be sure, codes of other images."""

import torch

from seed_hf.trainer.stages.decoder import blend_names, replace_codes


def test_blended_names():
    names = torch.nn.functional.normalize(torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0)).flatten(1))
    names = names.view(5, 2, 6)
    torch.testing.assert_close(blend_names(names, names, 0.02), names, atol=1e-3, rtol=0)
    torch.manual_seed(0)
    unsure = blend_names(names[:1].expand(4000, -1, -1), names, 1e4).mean(0)
    torch.testing.assert_close(unsure, names.mean(0), atol=0.05, rtol=0)  # any name is as likely
    some = blend_names(names, names, 0.8)
    assert some.shape == names.shape
    assert (some.flatten(1).norm(dim=1) < 1 + 1e-5).all()  # a mean lies between


def test_replaced_codes():
    torch.manual_seed(0)
    codes = torch.arange(200).view(200, 1, 1) * 32 + torch.arange(32)  # tells picture and place
    assert torch.equal(replace_codes(codes, 0.0), codes)
    some = replace_codes(codes, 0.5)
    assert torch.equal(some % 32, codes % 32)  # a code keeps its place
    shares = (some != codes).float().mean(dim=2)
    assert 0.2 < shares.mean() < 0.3 and shares.max() < 0.8
