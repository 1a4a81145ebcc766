"""Where the drawings and names of the emoji data set come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One npm package of drawings.

    Args:
        style (`str`): Name of the style in the data set.
        family (`str`): Styles of one family resemble each other and stay on one side of a split.
        package (`str`): Npm name and version.
        licence (`str`): SPDX name of the artwork's licence.
        title, author, url (`str`): Words of the attribution.
        package_licence (`str`, *optional*): What the package says, where that differs from the artwork's own licence
            file upstream, which counts.
        train_only (`bool`, defaults to `False`): Its drawings are never held out, nor do they change what is. A family
            of its own, then.
        left_out (`tuple[str, ...]`, defaults to `()`): Icons whose name says something else than they show.
    """

    style: str
    family: str
    package: str
    licence: str
    title: str
    author: str
    url: str
    package_licence: str | None = None
    train_only: bool = False
    left_out: tuple[str, ...] = ()


SOURCES = (
    Source("noto", "noto", "@iconify-json/noto@1.2.9", "Apache-2.0", "Noto Emoji", "Google Inc.",
           "https://github.com/googlefonts/noto-emoji"),
    Source("noto-v1", "noto", "@iconify-json/noto-v1@1.2.5", "Apache-2.0", "Noto Emoji (v1)", "Google Inc.",
           "https://github.com/googlefonts/noto-emoji"),
    Source("fxemoji", "fxemoji", "@iconify-json/fxemoji@1.2.2", "CC-BY-4.0", "Firefox OS Emoji", "Mozilla",
           "https://github.com/mozilla/fxemoji", package_licence="Apache-2.0"),
    Source("fluent-flat", "fluent", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Fluent Emoji Flat",
           "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji"),
    Source("fluent-3d", "fluent", "@lobehub/fluent-emoji-3d@1.1.0", "MIT", "Fluent Emoji 3D",
           "Microsoft Corporation; packaged by LobeHub", "https://github.com/lobehub/fluent-emoji"),
    Source("twemoji", "twemoji", "@iconify-json/twemoji@1.2.5", "CC-BY-4.0", "Twemoji",
           "Twitter, Inc. and other contributors", "https://github.com/jdecked/twemoji"),
    Source("emojitwo", "emojione", "@iconify-json/emojione@1.2.3", "CC-BY-4.0", "EmojiTwo (from Emoji One 2)",
           "Emoji One and the EmojiTwo project", "https://github.com/EmojiTwo/emojitwo"),
    Source("openmoji", "openmoji", "@iconify-json/openmoji@1.2.29", "CC-BY-SA-4.0", "OpenMoji",
           "HfG Schwäbisch Gmünd and contributors", "https://openmoji.org", train_only=True),
    Source("streamline", "streamline", "@iconify-json/streamline-emojis@1.2.4", "CC-BY-4.0", "Streamline Emojis",
           "Streamline", "https://github.com/webalys-hq/streamline-vectors", train_only=True,
           left_out=("turkey", "japan")),
)  # fmt: skip

# names, tags and groups
TEXT_PACKAGE = "emojibase-data@17.0.0"
