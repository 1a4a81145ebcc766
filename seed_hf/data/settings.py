"""Settings of data sets and augmentation, which training scripts take as flags. Imports no torch."""

from dataclasses import dataclass

from transformers.hf_argparser import HfArg


# Drawing sets of the emoji data, from the one that is drawn best to the one farthest from it in style; the two for
# training only draw hardly anything that none of these does.
STYLES = ("twemoji", "emojitwo", "fluent-flat", "noto", "fluent-3d", "noto-v1", "fxemoji")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images and captions a script reads."""

    _argument_group_name = "data"

    dataset: str = HfArg(help="`emoji`, tar shards, parquet files, a folder, or a Hub id; see training/README.md.")
    train_split: str = HfArg(default="train", help="Split to train on, also with a slice, such as `train[1000:]`.")
    eval_split: str = HfArg(
        default="validation", help="Split to evaluate on, also with a slice, such as `train[:1000]`."
    )
    allow_outside_paths: bool = HfArg(
        default=False,
        help="Also read images that the data set names by a path or URL outside of its own folder or source.",
    )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much views of an image differ from it; the defaults are LAVIS' `blip2_image_train`."""

    _argument_group_name = "augmentation"

    crop_scale: float = HfArg(default=0.5, help="Smallest area of the random crop, as a share (LAVIS: 0.5).")
    flip_probability: float = HfArg(default=0.5, help="Probability of a mirror image (LAVIS: 0.5).")
    rotation_degrees: float = HfArg(default=0.0, help="Largest rotation to either side.")
    color_jitter: float = HfArg(default=0.0, help="Largest change of colour, brightness and contrast, as a share.")
