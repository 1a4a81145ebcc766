# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Loading that accounts for every weight."""


class StrictLoadingMixin:
    """Makes `from_pretrained` of a `PreTrainedModel` an error where transformers only warns; list it first.

    What the constructor has frozen stays frozen, where transformers gives every loaded weight a gradient.
    """

    def post_init(self):
        """The end of the constructor."""
        super().post_init()
        self._frozen_names = {name for name, value in self.named_parameters() if not value.requires_grad}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        r"""
        Loads a model; a missing, unexpected or misshapen weight is an error.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args, kwargs: As in `PreTrainedModel.from_pretrained`.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` also the loading report.

        Raises:
            ValueError: The weights do not fit the configuration.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        # transformers' own error on misshapen weights does not name them; ours does
        may_differ = kwargs.pop("ignore_mismatched_sizes", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
        names = ["missing_keys", "unexpected_keys"] + ([] if may_differ else ["mismatched_keys"])
        problems = {name: sorted(map(str, info[name]))[:10] for name in names if info[name]}
        if problems:
            folder = pretrained_model_name_or_path
            raise ValueError(f"`{folder}` does not fit its configuration: {problems}; allowed: none of these.")
        for name, value in model.named_parameters():
            if name in model._frozen_names:
                value.requires_grad_(False)
        return (model, info) if wants_info else model


__all__ = ["StrictLoadingMixin"]
