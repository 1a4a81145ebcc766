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
"""`push_to_hub` for every class: the package's upload if it is installed, otherwise the library's."""

import inspect
import tempfile


try:
    from seed_hf.hub import push_folder
except ImportError:  # this file travels with a model to where the package may not be installed
    push_folder = None


class HubUploadMixin:
    r"""
    Gives a class [`~HubUploadMixin.push_to_hub`] through [`~seed_hf.hub.push_folder`]; list it first.

    The methods that it replaces would overwrite the card of the repository, with a stub if need be. Where the package
    is not installed, they do.
    """

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str | None = None, **kwargs):
        r"""
        Saves to a temporary folder, code files included, and uploads that with [`~seed_hf.hub.push_folder`].

        Args:
            repo_id (`str`): `owner/name`, or `name` in one's own namespace.
            max_shard_size (`int` or `str`, *optional*): Size of the largest weights file, such as `"5GB"`.
            kwargs: `revision`, `create_pr`, `private`, `gated`, `commit_message`, `token`, `dry_run`.

        Returns:
            [`~seed_hf.hub.PushReport`]: What was sent.

        Raises:
            ValueError, OSError: See [`~seed_hf.hub.push_folder`].
        """
        saving = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
        if push_folder is None:
            return super().push_to_hub(repo_id, **saving, **kwargs)
        inspect.signature(push_folder).bind("", repo_id, **kwargs)  # a mistake is found before gigabytes are written
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **saving)
            return push_folder(folder, repo_id, **{"commit_message": f"Upload {type(self).__name__}"} | kwargs)

    def _upload_modified_files(self, working_dir, repo_id, files_timestamps, **kwargs):
        """What `save_pretrained(push_to_hub=True)` of transformers calls; the card that it wrote is not sent."""
        if push_folder is None:
            return super()._upload_modified_files(working_dir, repo_id, files_timestamps, **kwargs)
        return self._upload_folder(working_dir, repo_id, **kwargs)

    def _upload_folder(self, working_dir, repo_id, **kwargs):
        """What diffusers calls in the same place."""
        if push_folder is None:
            return super()._upload_folder(working_dir, repo_id, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        return push_folder(working_dir, repo_id, ignore_patterns=["README.md"], **kwargs)


__all__ = ["HubUploadMixin"]
