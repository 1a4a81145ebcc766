"""A small Hub on loopback: what `huggingface_hub`, transformers, diffusers and datasets ask of the real one.

Repositories with branches, tags, pull requests, private and gated ones; regular and LFS files; the errors of the real
one with their codes; checks of cards. State is in memory. Commits are atomic: a revision is a dict from path to blob.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


LFS_SIZE = 2000  # the real one: 10 MB, or by suffix
LFS_SUFFIXES = (".safetensors", ".parquet")
LICENSES = (
    "apache-2.0",
    "mit",
    "cc-by-4.0",
    "bsd-3-clause",
    "openrail++",
    "creativeml-openrail-m",
    "other",
    "unknown",
)


@dataclass(frozen=True)
class Blob:
    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_oid

    @property
    def git_oid(self) -> str:
        data = f"oid sha256:{self.sha256}\nsize {len(self.data)}\n".encode() if self.is_lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def describe(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.git_oid}
        lfs = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
        return {**entry, "lfs": lfs} if self.is_lfs else entry


@dataclass
class Repository:
    owner: str
    private: bool
    gated: str | bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)})

    def commit(self, ref: str, files: dict[str, Blob]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Request:
    method: str
    path: str
    num_bytes: int
    status: int | None = None


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **more):
        self.status, self.message, self.code, self.more = status, message, code, more


class HubServer(ThreadingHTTPServer):
    """`with HubServer() as hub:`; `hub.tokens` says who is who, `hub.requests` what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tokens = {"hf_" + "w" * 34: "owner", "hf_" + "g" * 34: "guest"}
        self.owner_token, self.guest_token = self.tokens
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        # says of a request whether to read half of its body and hang up; (method, path) -> bool
        self.cut: Callable[[str, str], bool] = lambda method, path: False
        self.before_commit: Callable[[], None] = lambda: None
        self.lock = threading.RLock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that hangs up is none of our business; anything else is."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """What anybody sees of a revision."""
        repository = self.repositories[repo_type, repo_id]
        return {path: blob.data for path, blob in repository.commits[repository.resolve(revision)].items()}

    def sent(self, method: str, pattern: str) -> list[Request]:
        """Requests with a path like that."""
        return [request for request in self.requests if request.method == method and re.search(pattern, request.path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_):
        pass

    def _handle(self):
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        record = Request(self.command, url.path, length)
        self.server.requests.append(record)
        if self.server.cut(self.command, url.path):
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        self.body = self.rfile.read(length) if length else self._read_chunked()
        record.num_bytes = len(self.body)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            with self.server.lock:
                status, headers, content = self._route(url.path)
        except RefusedError as refusal:
            status, headers = refusal.status, {"X-Error-Message": refusal.message}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
            content = json.dumps({"error": refusal.message, **refusal.more}).encode()
        record.status = status
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _read_chunked(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    # ---------------------------------------------------------------------------------------- who asks for what
    def _user(self, required: bool = False) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.server.tokens:
            # a server that repeats what it was sent: the client must not pass it on
            raise RefusedError(
                401, "Invalid credentials in Authorization header", error=f"Nobody has the token {token}"
            )
        if required and not token:
            raise RefusedError(401, "Invalid username or password.")
        return self.server.tokens.get(token)

    def _repository(self, repo_type: str, repo_id: str, wants: str = "metadata") -> Repository:
        """A repository that the caller may see, read (`"content"`) or write to."""
        user, repository = self._user(), self.server.repositories.get((repo_type, repo_id))
        if repository is None or (repository.private and user != repository.owner):
            raise RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")
        if wants == "content" and repository.gated and user != repository.owner:
            raise RefusedError(403, f"Access to {repo_type} {repo_id} is restricted.", "GatedRepo")
        if wants == "writing" and user != repository.owner:
            raise RefusedError(403 if user else 401, "You don't have the rights to write there.")
        return repository

    def _revision(self, repository: Repository, revision: str) -> str:
        oid = repository.resolve(unquote(revision))
        if oid is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def _route(self, path: str) -> tuple[int, dict, bytes]:
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                arguments = {name: value for name, value in match.groupdict().items() if value is not None}
                result = getattr(self, f"_{name}")(**arguments)
                return result if isinstance(result, tuple) else (200, {}, json.dumps(result).encode())
        raise RefusedError(404, f"No such endpoint: {self.command} {path}")

    # ---------------------------------------------------------------------------------------- repositories
    def _whoami(self):
        return {"type": "user", "name": self._user(required=True), "orgs": []}

    def _create(self):
        wanted, user = json.loads(self.body), self._user(required=True)
        repo_type, owner = wanted.get("type") or "model", wanted.get("organization") or user
        key = (repo_type, f"{owner}/{wanted['name']}")
        url = f"{self.server.url}/{'' if repo_type == 'model' else f'{repo_type}s/'}{key[1]}"
        if owner != user:
            raise RefusedError(403, f"You don't have the rights to create a {repo_type} under {owner}.")
        if key in self.server.repositories:
            raise RefusedError(409, "You already created this repository.", url=url)
        private = wanted.get("private", False) or wanted.get("visibility") == "private"
        self.server.repositories[key] = Repository(owner, private)
        return {"url": url, "id": key[1], "name": key[1]}

    def _settings(self, repo_type, repo_id):
        repository = self._repository(repo_type, repo_id, "writing")
        for name, value in json.loads(self.body).items():
            setattr(repository, name, value)
        return {}

    def _info(self, repo_type, repo_id, revision="main"):
        repository = self._repository(repo_type, repo_id)
        oid = self._revision(repository, revision)
        siblings = [{"rfilename": path} for path in repository.commits[oid]]
        basics = {"id": repo_id, "sha": oid, "private": repository.private, "gated": repository.gated}
        return {**basics, "tags": [], "downloads": 0, "likes": 0, "disabled": False, "siblings": siblings}

    def _refs(self, repo_type, repo_id):
        repository = self._repository(repo_type, repo_id)
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in repository.refs.items()]
        return {"branches": branches, "converts": [], "tags": []}

    def _new_ref(self, repo_type, repo_id, name):
        repository = self._repository(repo_type, repo_id, "writing")
        if self.path.split("/")[-2] == "tag":  # here the URL has what to tag, and the body the name
            name, start = json.loads(self.body)["tag"], name
        else:
            start = json.loads(self.body or b"{}").get("startingPoint", "main")
        if unquote(name) in repository.refs:
            raise RefusedError(409, f"Reference {name} exists already.")
        repository.refs[unquote(name)] = self._revision(repository, start)
        return {}

    def _tree(self, repo_type, repo_id, revision, folder=""):
        repository = self._repository(repo_type, repo_id, "content")
        files = repository.commits[self._revision(repository, revision)]
        prefix = f"{unquote(folder).strip('/')}/" if folder.strip("/") else ""
        found = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if prefix and not found:
            raise RefusedError(404, f"{folder} does not exist", "EntryNotFound")
        parents = {"/".join(path.split("/")[:depth]) for path in found for depth in range(1, path.count("/") + 1)}
        folders = [{"type": "directory", "path": path, "oid": "0" * 40} for path in parents if path.startswith(prefix)]
        entries = [*folders, *(blob.describe(path) for path, blob in found.items())]
        if self.query.get("recursive", "false").lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        return entries

    def _paths_info(self, repo_type, repo_id, revision):
        repository = self._repository(repo_type, repo_id, "content")
        files = repository.commits[self._revision(repository, revision)]
        if "json" in self.headers.get("Content-Type", ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode())["paths"]
        folders = [p for p in wanted if any(path.startswith(f"{p}/") for path in files)]
        entries = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        return [*entries, *(files[path].describe(path) for path in wanted if path in files)]

    # ---------------------------------------------------------------------------------------- upload
    def _validate_yaml(self):
        wanted = json.loads(self.body)
        errors = card_errors(wanted["content"])
        if errors:
            raise RefusedError(400, "Invalid card.", errors=[{"message": error} for error in errors], warnings=[])
        return {"errors": [], "warnings": []}

    def _preupload(self, repo_type, repo_id, revision):
        repository = self._repository(repo_type, repo_id, "metadata" if self.query.get("create_pr") else "writing")
        current = repository.commits[self._revision(repository, revision)]
        answers = []
        for file in json.loads(self.body)["files"]:
            is_lfs = file["size"] >= LFS_SIZE or file["path"].endswith(LFS_SUFFIXES)
            answer = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            answers.append(answer | ({"oid": current[file["path"]].etag} if file["path"] in current else {}))
        return {"files": answers}

    def _lfs_batch(self, repo_id, repo_type=""):
        self._repository("dataset" if repo_type else "model", repo_id)
        self._user(required=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/lfs-objects/{wanted['oid']}"
            has = wanted["oid"] in self.server.objects
            objects.append({**wanted} if has else {**wanted, "actions": {"upload": {"href": href}}})
        return {"transfer": "basic", "objects": objects}

    def _lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, "The content is not what was announced.")
        self.server.objects[oid] = self.body
        return {}

    def _commit(self, repo_type, repo_id, revision):
        self.server.before_commit()
        as_pull_request = self.query.get("create_pr") == "1"
        repository = self._repository(repo_type, repo_id, "metadata" if as_pull_request else "writing")
        self._user(required=True)
        oid = self._revision(repository, revision)
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repository.commits[oid])
        for value in (line["value"] for line in lines if line["key"] == "header"):
            if not as_pull_request and value.get("parentCommit", oid) != oid:
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.server.objects:
                    raise RefusedError(400, f"LFS pointer of {value['path']} points to nothing.")
                files[value["path"]] = Blob(self.server.objects[value["oid"]], True)
            elif key == "deletedFile":
                del files[value["path"]]
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
        ref = f"refs/pr/{number}" if as_pull_request else unquote(revision)
        oid = repository.commit(ref, files)
        url = f"{self.server.url}/{repo_id}"
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}", "hookOutput": ""}
        return answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if as_pull_request else {})

    # ---------------------------------------------------------------------------------------- download
    def _resolve(self, repo_id, revision, path, repo_type=""):
        repository = self._repository("dataset" if repo_type else "model", repo_id, "content")
        oid = self._revision(repository, revision)
        blob = repository.commits[oid].get(unquote(path))
        if blob is None:
            status, headers = 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return status, {**headers, "X-Repo-Commit": oid}, b""
        headers = {"X-Repo-Commit": oid, "ETag": f'"{blob.etag}"', "Content-Type": "application/octet-stream"}
        if blob.is_lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": len(blob.data)}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            return 200, headers, blob.data
        start, end = int(part[1]), int(part[2] or len(blob.data) - 1)
        return 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(blob.data)}"}, blob.data[start : end + 1]


_ID = r"(?P<repo_id>[^/]+/[^/]+?)"
_API = rf"/api/(?P<repo_type>model|dataset|space)s/{_ID}"
_FILES = rf"/(?P<repo_type>datasets/)?{_ID}"
ROUTES = [
    (("GET",), r"/api/whoami-v2", "whoami"),
    (("POST",), r"/api/repos/create", "create"),
    (("POST",), r"/api/validate-yaml", "validate_yaml"),
    (("PUT",), rf"{_API}/settings", "settings"),
    (("GET",), rf"{_API}/refs", "refs"),
    (("GET",), rf"{_API}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    (("POST",), rf"{_API}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    (("POST",), rf"{_API}/preupload/(?P<revision>[^/]+)", "preupload"),
    (("POST",), rf"{_API}/commit/(?P<revision>[^/]+)", "commit"),
    (("POST",), rf"{_API}/(?:branch|tag)/(?P<name>[^/]+)", "new_ref"),
    (("GET",), rf"{_API}(?:/revision/(?P<revision>[^/]+))?", "info"),
    (("POST",), rf"{_FILES}\.git/info/lfs/objects/batch", "lfs_batch"),
    (("PUT",), r"/lfs-objects/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    (("GET", "HEAD"), rf"{_FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


def card_errors(content: str) -> list[str]:
    """What the real Hub finds wrong in the metadata of a card, as far as it is known."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if match is None:
        return ["empty or missing yaml metadata in repo card"]
    try:
        values = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"YAML Error: {error}"]
    errors = []
    licenses = values.get("license", [])
    for value in licenses if isinstance(licenses, list) else [licenses]:
        if value not in LICENSES:
            errors.append(f'"license" must be one of {LICENSES}, not {value!r}')
    if values.get("license") == "other" and not values.get("license_name"):
        errors.append('"license_name" is required with license "other"')
    bases = values.get("base_model", [])
    for name in bases if isinstance(bases, list) else [bases]:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
            errors.append(f'"base_model" with value {name!r} is not valid. Use a model id from https://hf.co/models.')
    for index in values.get("model-index", []):
        if not index.get("name"):
            errors.append('"model-index[0].name" is required')
        for result in index.get("results", []):
            if not result.get("task", {}).get("type"):
                errors.append('"model-index[0].results[0].task.type" is required')
            if not {"name", "type"} <= result.get("dataset", {}).keys():
                errors.append('"model-index[0].results[0].dataset" needs a name and a type')
            for metric in result.get("metrics", [{}]):
                if not {"type", "value"} <= metric.keys() or not isinstance(metric["value"], int | float):
                    errors.append('"model-index[0].results[0].metrics[0]" needs a type and a value')
    return errors
