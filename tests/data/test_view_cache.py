"""Views of images: drawn anew in every pass, or a few of them put once through a frozen model."""

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from tiny.shards import sample, write_shard

from seed_hf.data.batches import SeededDataset
from seed_hf.data.captioned_images import CaptionedImages
from seed_hf.data.reading import UnreadableSampleError
from seed_hf.data.rows import load_rows
from seed_hf.data.view_cache import AugmentedViews, CachedViews


def shift(image, generator):
    """A view that says which image it is of, and which view."""
    view = torch.rand((), generator=generator).item()
    return torch.tensor([np.asarray(image).mean(), view], dtype=torch.float64)


@pytest.fixture
def data(tmp_path):
    samples = [sample(number, txt="a dog" if number < 2 else "a cat") for number in range(3)]
    shard = write_shard(tmp_path / "0.tar", [*samples, sample(3, jpg=b"no image", txt="a bird")])
    return CaptionedImages(load_rows(shard, "train"))


def test_a_view_and_its_caption_are_drawn_from_the_generator_of_the_sample(data):
    views = SeededDataset(AugmentedViews(data, shift), lambda drawn, generator: (*drawn, generator.initial_seed()))
    first, again, other = views[0, 0], views[0, 0], views[1, 0]
    assert first[1] == "a dog" and torch.equal(first[0], again[0]) and first[1:] == again[1:]
    assert first[0][1] != other[0][1] and first[-1] != other[-1]


def test_cached_views_belong_to_their_images(data):
    cached = CachedViews(data, torch.stack, shift, 3, seed=0, batch_size=2)
    means = [float(np.asarray(data.draw(index, torch.Generator())[0]).mean()) for index in (0, 1)]
    drawn = [cached.draw(index, torch.Generator().manual_seed(seed)) for index in (0, 1) for seed in range(40)]
    assert {caption for _, caption, _ in drawn} == {"a dog", "a cat"}
    cats = [cached.values[number] for number, caption, _ in drawn if caption == "a cat"]
    assert {view[0].item() for view in cats} == {means[1]} and len({view[1].item() for view in cats}) == 3
    with pytest.raises(UnreadableSampleError):
        cached.draw(2, torch.Generator())


def test_kept_views_are_made_once(data, tmp_path):
    """Also after a stop; other settings or weights make them anew; an image that cannot be read stays known."""
    encoded = []

    def encode(views):
        encoded.append(len(views))
        if sum(encoded) > 8:
            raise KeyboardInterrupt
        return torch.stack(views)

    settings = {"seed": 0, "batch_size": 2, "file": tmp_path / "run" / "views.bin", "made_with": {"crop": 0.5}}
    with pytest.raises(KeyboardInterrupt):
        CachedViews(data, encode, shift, 3, **settings)
    encoded.clear()
    state = torch.get_rng_state()
    kept = CachedViews(data, encode, shift, 3, **settings)
    assert sum(encoded) == 2 + 3 * 4 - 8  # the first ones again, to see that they are still the same
    values = CachedViews(data, torch.stack, shift, 3, seed=0, batch_size=5, num_workers=2).values
    assert torch.equal(kept.values, values) and torch.equal(torch.get_rng_state(), state)
    encoded.clear()
    with pytest.raises(UnreadableSampleError):
        CachedViews(data, encode, shift, 3, **settings).draw(2, torch.Generator())
    assert sum(encoded) == 2
    # one that can be read by now has black views all the same
    rows = data.rows
    last = rows.select([3]).map(lambda _: {"image": rows[0]["image"]})
    repaired = CaptionedImages(concatenate_datasets([rows.select(range(3)), last]))
    with pytest.raises(UnreadableSampleError, match="no image|cannot"):
        CachedViews(repaired, torch.stack, shift, 3, **settings).draw(2, torch.Generator())
    for change in ({"made_with": {"crop": 0.6}}, {"encode": lambda views: torch.stack(views) + 1}):
        changed = {"encode": torch.stack, **settings, **change}
        anew = CachedViews(data, changed.pop("encode"), shift, 3, **changed)
        assert torch.equal(anew.values, values + ("encode" in change))
