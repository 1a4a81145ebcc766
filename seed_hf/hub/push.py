"""Uploads folders to the Hub: one function for every kind of repository."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from .files import find_repository_files, list_files
from .kinds import KINDS, repository_kind
from .secrets import hide_credentials


logger = logging.get_logger(__name__)

WEIGHTS = re.compile(r"(?P<stem>.+?)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
# what may be too large to be held in memory
LARGE_SUFFIXES = (".safetensors", ".parquet")
HINTS = {
    401: "There is no token, or the server does not know it: run `hf auth login`, or pass `token=`.",
    403: "The token does not allow this: it needs write access to the namespace and the repository.",
    409: "Another commit or setting is in the way; run the same command again, which compares anew.",
    412: "Somebody else has pushed, and nothing of this push is visible; run the same command again.",
}


@dataclass
class PushReport:
    r"""
    What a push sent, or, as a dry run, would send.

    Args:
        repo_id (`str`): Name of the repository, with its owner.
        repo_type (`str`): `"model"` or `"dataset"`.
        new (`dict[str, int]`): Sizes in bytes of files that the repository did not have, by path.
        changed (`dict[str, int]`): Sizes of files that it had with other content, by path.
        deleted (`list[str]`): Weights that would otherwise be loaded instead of those sent.
        unchanged (`dict[str, int]`): Sizes of files that are not sent, by path.
        url (`str`, *optional*): Address of the commit or pull request; `None` if there was nothing to send, or in a
            dry run.
        not_compared (`str`, *optional*): Why a dry run counts all files as new: the Hub could not be asked.
    """

    repo_id: str
    repo_type: str
    new: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    unchanged: dict[str, int] = field(default_factory=dict)
    url: str | None = None
    not_compared: str | None = None

    def __str__(self) -> str:
        lines = [f"new        {size:>15,}  {path}" for path, size in self.new.items()]
        lines += [f"changed    {size:>15,}  {path}" for path, size in self.changed.items()]
        lines += [f"deleted    {'':>15}  {path}" for path in self.deleted]
        sent = [*self.new.values(), *self.changed.values()]
        rest = f"{len(self.unchanged)} unchanged ({sum(self.unchanged.values()):,} bytes)"
        lines.append(f"{self.repo_type} {self.repo_id}: {len(sent)} files, {sum(sent):,} bytes; {rest}")
        if self.not_compared:
            lines.append(f"not compared with what the repository has: {self.not_compared}")
        return "\n".join([*lines, self.url] if self.url else lines)


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    private: bool | None = None,
    gated: str | bool | None = None,
    commit_message: str = "Upload with seed_hf",
    ignore_patterns: str | Iterable[str] = (),
    token: str | None = None,
    dry_run: bool = False,
) -> PushReport:
    r"""
    Uploads a folder in one commit to a repository on the Hub, which is made if missing.

    What the repository has already is not sent again, nor are weights that an interrupted push sent, and nothing is
    visible before the commit. A card is sent only if the folder has one; otherwise the repository's own stays. Files
    that only the repository has stay too, except weights that would be loaded instead of those sent.

    Args:
        folder (`str` or `os.PathLike`): A folder of any kind that [`repository_kind`] knows, or a part of one.
        repo_id (`str`): `owner/name`, or `name` in one's own namespace. Codes become a data set, all else a model.
        revision (`str`, *optional*): Branch to commit to, made if missing; the default branch otherwise.
        create_pr (`bool`, defaults to `False`): Open a pull request instead, which needs no right to write.
        private (`bool`, *optional*): Whether a new repository is private. One that exists is never changed.
        gated (`str` or `bool`, *optional*): How users get access: `"auto"`, `"manual"` or `False`, as on the Hub.
        commit_message (`str`): First line of the commit's message.
        ignore_patterns (`str` or `Iterable[str]`): Paths in the folder to leave out, with `*` for anything.
        token (`str`, *optional*): Token for the Hub; by default the one of `hf auth login` or `HF_TOKEN`.
        dry_run (`bool`, defaults to `False`): Only report what would be sent, and change nothing; without the Hub, all
            files count as new, and the report says so.

    Returns:
        [`PushReport`]: The report; `print` shows every path with its size.

    Raises:
        ValueError: The folder holds what cannot be published (see [`find_repository_files`]), its card is not valid,
            `create_pr` comes with a `revision`, the repository is public in spite of `private=True`, or a file
            changed between the check and the commit. Nothing is visible then.
        OSError: The server refused (as `HfHubHTTPError`, which has the status), or the connection broke.
    """
    if create_pr and revision is not None:
        raise ValueError(f"`revision` is {revision!r} with `create_pr`; allowed: pull requests to the default branch.")
    token = token or get_token()
    before = _states(list_files(folder))
    files = find_repository_files(folder, ignore_patterns, [token] if token else [])
    kind = repository_kind(folder)
    repo_type = KINDS[kind].repo_type if kind else "model"
    api = HfApi(token=token, library_name="seed_hf")
    if dry_run:
        return _preview(api, repo_id, repo_type, revision, files)
    with _clear_errors(token):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        repository = {"repo_id": repo_id, "repo_type": repo_type}
        _prepare_repository(api, repository, revision, private, gated)
        head = _head(api, repository, revision)
        remote = _list_files(api, repository, head)
        report = _compare(files, remote, PushReport(**repository))
        added = [_operation(path, files[path]) for path in (*report.new, *report.changed)]
        operations = [*added, *(CommitOperationDelete(path) for path in report.deleted)]
        if operations:
            # nothing of this is visible before the commit
            settings = {"revision": revision, "create_pr": create_pr}
            # `free_memory` would empty a large card before its metadata are checked
            api.preupload_lfs_files(additions=added, **repository, **settings, free_memory=False)
            _check_unchanged(folder, files, before)
            # not `upload_folder`: where Xet is installed, that commits in batches, which show half of a folder
            commit = api.create_commit(
                **repository,
                operations=operations,
                commit_message=commit_message,
                parent_commit=head,
                **settings,
            )
            report.url = commit.pr_url or commit.commit_url
    _warn_without_card(repo_id, files, remote)
    return report


def _preview(api: HfApi, repo_id: str, repo_type: str, revision: str | None, files: dict[str, Path]) -> PushReport:
    """What would be sent, with the folder alone where the Hub cannot be reached."""
    remote, problem = {}, None
    try:
        with _clear_errors(api.token):
            repo_id = repo_id if "/" in repo_id else f"{api.whoami()['name']}/{repo_id}"
            repository = {"repo_id": repo_id, "repo_type": repo_type}
            if head := _find_head(api, repository, revision):
                remote = _list_files(api, repository, head)
    except HfHubHTTPError:
        raise
    except OSError as error:
        problem = f"the Hub could not be asked ({str(error).splitlines()[0]})"
    _warn_without_card(repo_id, files, remote)
    return _compare(files, remote, PushReport(repo_id, repo_type, not_compared=problem))


def _warn_without_card(repo_id: str, files: dict[str, Path], remote: dict[str, RepoFile]):
    if "README.md" not in {**files, **remote}:
        logger.warning(f"{repo_id} has no card; `seed-hf card` makes one from what is known.")


def _states(files: dict[str, Path]) -> dict[str, tuple]:
    """What changes with the content of each file; a link has the state of the file that it leads to."""
    states = {name: path.stat() for name, path in files.items() if path.exists()}
    return {
        name: (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for name, state in states.items()
    }


def _check_unchanged(folder: str | os.PathLike, files: dict[str, Path], before: dict[str, tuple]) -> None:
    """Makes sure that what is sent is what was checked."""
    now = _states(files)
    if changed := [name for name in files if name not in now or now[name] != before.get(name)]:
        raise ValueError(
            f"`folder` {str(folder)!r} changed while it was sent: {changed}; allowed: a folder that nothing writes "
            "to. Nothing of it is visible; run the same command again, which checks and sends anew."
        )


def _operation(name: str, path: Path) -> CommitOperationAdd:
    """Large files are hashed now, and the server refuses them with another hash later; small ones are read now."""
    is_large = path.suffix in LARGE_SUFFIXES
    return CommitOperationAdd(name, str(path) if is_large else path.read_bytes())


def _prepare_repository(api: HfApi, repository: dict, revision: str | None, private: bool | None, gated) -> None:
    """Makes repository and branch where they are missing; settings of a repository that exists are not touched."""
    try:
        info = api.repo_info(**repository)
    except RepositoryNotFoundError:
        api.create_repo(**repository, private=private, exist_ok=True)
    else:
        if private and not info.private:
            raise ValueError(
                f"`private` is True, but {repository['repo_id']} is public; allowed: a new or a private repository."
            )
    if gated is not None:
        api.update_repo_settings(**repository, gated=gated)
    if revision is not None and not revision.startswith("refs/"):
        try:
            api.repo_info(**repository, revision=revision)
        except RevisionNotFoundError:
            api.create_branch(**repository, branch=revision, exist_ok=True)


def _head(api: HfApi, repository: dict, revision: str | None) -> str:
    return api.repo_info(**repository, revision=revision).sha


def _find_head(api: HfApi, repository: dict, revision: str | None) -> str | None:
    """The commit that a missing branch would start from; `None` without a repository."""
    try:
        return _head(api, repository, revision)
    except RevisionNotFoundError:
        return _head(api, repository, None)
    except RepositoryNotFoundError:
        return None


def _list_files(api: HfApi, repository: dict, commit: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(**repository, revision=commit, recursive=True)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _compare(files: dict[str, Path], remote: dict[str, RepoFile], report: PushReport) -> PushReport:
    """Fills a report with what differs between a folder and its repository."""
    for name, path in files.items():
        is_same = name in remote and _is_same(path, remote[name])
        group = report.unchanged if is_same else report.changed if name in remote else report.new
        group[name] = path.stat().st_size
    sent = {_weights_stem(name) for name in files} - {None}
    report.deleted = [name for name in remote if name not in files and _weights_stem(name) in sent]
    return report


def _is_same(path: Path, remote: RepoFile) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.lfs is None:
        return git_hash(path.read_bytes()) == remote.blob_id
    with path.open("rb") as file:
        return sha_fileobj(file).hex() == remote.lfs.sha256


def _weights_stem(name: str) -> str | None:
    """What all shards of the same weights, and their index, have in common."""
    path = PurePosixPath(name)
    match = WEIGHTS.fullmatch(path.name)
    return match and str(path.with_name(match["stem"]))


@contextmanager
def _clear_errors(token: str | None) -> Iterator[None]:
    """Adds advice to errors of the server, turns lost connections into `OSError`, and hides secrets in both."""
    try:
        yield
    except HfHubHTTPError as error:
        hint = HINTS.get(error.response.status_code)
        error.args = (_without(token, str(error)) + (f"\n{hint}" if hint else ""), *error.args[1:])
        error.server_message = _without(token, error.server_message)
        raise
    # lost connections, as the client's HTTP library and its uploading threads raise them
    except (HTTPError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise OSError(
            f"The upload broke off ({type(cause).__name__}: {_without(token, str(cause))}). Nothing of it is visible; "
            "run the same command again, which sends only what is missing."
        ) from None


def _without(token: str | None, text: str | None) -> str | None:
    text = text.replace(token, "<token>") if token and text else text
    return hide_credentials(text) if text else text


__all__ = ["PushReport", "push_folder"]
