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
        train_only (`bool`, defaults to `False`): Its drawings are never held out, nor do they change what is: where
            its family is held out for a concept, or the concept itself, they are left out.
        suffix (`str`, *optional*): For sets of icons for user interfaces: the end of the names of the icons to take,
            possibly "". What comes before it has to be the CLDR name of a thing, so that a name means what is drawn.
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
    suffix: str | None = None
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
    # other drawings of the same artists: they follow their family, and change nothing about what is held out
    Source("fluent-color", "fluent", "@iconify-json/fluent-emoji@1.2.7", "MIT", "Fluent Emoji (color)",
           "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji", train_only=True),
    Source("fluent-mono", "fluent", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT",
           "Fluent Emoji High Contrast", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji",
           train_only=True),
    Source("emojitwo-mono", "emojione", "@iconify-json/emojione-monotone@1.2.1", "CC-BY-4.0",
           "EmojiTwo monotone (from Emoji One 2)", "Emoji One and the EmojiTwo project",
           "https://github.com/EmojiTwo/emojitwo", train_only=True),
    Source("streamline", "streamline", "@iconify-json/streamline-emojis@1.2.4", "CC-BY-4.0", "Streamline Emojis",
           "Streamline", "https://github.com/webalys-hq/streamline-vectors", train_only=True,
           left_out=("turkey", "japan")),
    Source("game-icons", "game-icons", "@iconify-json/game-icons@1.2.4", "CC-BY-3.0", "Game-icons.net",
           "Lorc, Delapouite and contributors", "https://game-icons.net", train_only=True, suffix="",
           left_out=("bat", "bubbles", "hook", "knot", "oden")),
    Source("icon-park", "icon-park", "@iconify-json/icon-park@1.2.4", "Apache-2.0", "IconPark", "ByteDance",
           "https://github.com/bytedance/IconPark", train_only=True, suffix="",
           left_out=("cooking", "mouse", "rock", "seal", "seat", "turkey")),
    Source("mdi", "mdi", "@iconify-json/mdi@1.2.3", "Apache-2.0", "Material Design Icons", "Pictogrammers",
           "https://github.com/Templarian/MaterialDesign", train_only=True, suffix="",
           left_out=("bat", "cricket", "hook", "mouse", "seal", "seat", "shield", "turkey")),
    Source("phosphor", "phosphor", "@iconify-json/ph@1.2.2", "MIT", "Phosphor Icons (duotone)", "Phosphor Icons",
           "https://github.com/phosphor-icons/core", train_only=True, suffix="-duotone",
           left_out=("cricket", "mouse", "seal", "seat")),
)  # fmt: skip

# names, tags and groups
TEXT_PACKAGE = "emojibase-data@17.0.0"
