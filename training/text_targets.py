"""Frozen text features of captions: see [`seed_hf.evaluation.text_conditions`], which the evaluation shares."""

from seed_hf.evaluation.text_conditions import (
    TextTargetEncoder,
    default_text_encoder_folder,
    load_text_encoder,
)


__all__ = ["TextTargetEncoder", "default_text_encoder_folder", "load_text_encoder"]
