"""Finds what must not be published in the bytes of a file: tokens, keys, passwords, and pickles in disguise."""

import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path


CHUNK_BYTES = 16 * 2**20
# Longer than any secret below, so that none is cut in two.
OVERLAP_BYTES = 4096

# What a secret is, a lower-case text that it contains (searched first, to save time), and its form as its issuer
# documents it. Only forms that nothing else has are listed: no word of a vocabulary may be taken for a password. For
# guesses by entropy, run a scanner of repositories such as gitleaks over the folder.
_NAMED = rb"[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
SECRETS = (
    ("a Hugging Face token", b"hf_", rb"\bhf_[A-Za-z0-9]{30,}"),
    ("a Hugging Face token", b"api_org_", rb"\bapi_org_[A-Za-z0-9]{30,}"),
    ("a private key", b"-begin ", rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
    ("a private key", b"begin ssh2", rb"---- BEGIN SSH2 ENCRYPTED PRIVATE[ ]KEY"),
    ("a private key", b"putty-user-key", rb"PuTTY-User-Key-File-\d"),
    ("a private key", b"age-secret-key", rb"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("a password in a URL", b"://", rb"://[^\s/:@\"'`<>{}$*\[\]\\]*:[^\s/:@\"'`<>{}$*\[\]\\]{3,}@[\w.-]+"),
    ("a signed URL", b"sig", rb"[?&](?:X-Amz-Signature|X-Goog-Signature|Signature|sig)=[\w%+/=-]{20,}"),
    ("a JSON web token", b"eyj", rb"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    # clouds
    ("an AWS key", b"a", rb"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    ("an AWS key", b"aws", rb"(?i:\baws[\w.-]{0,20}(?:key|token))" + _NAMED + rb"[A-Za-z0-9/+]{40}\b"),
    ("a Google key", b"aiza", rb"\bAIza[\w-]{35}"),
    ("a Google key", b"gocspx-", rb"\bGOCSPX-[\w-]{28}"),
    ("a Google key", b"ya29.", rb"\bya29\.[\w-]{30,}"),
    ("an Azure key", b"accountkey=", rb"\bAccountKey=[A-Za-z0-9+/]{80,}={0,2}"),
    ("an Azure key", b"8q~", rb"\b[\w~.]{3}8Q~[\w~.-]{31,34}"),
    ("a DigitalOcean token", b"_v1_", rb"\bdo[opr]_v1_[0-9a-f]{64}"),
    # code hosts and package indices
    ("a GitHub token", b"gh", rb"\bgh[pousr]_[A-Za-z0-9]{36}"),
    ("a GitHub token", b"github_pat_", rb"\bgithub_pat_[A-Za-z0-9_]{60,}"),
    ("a GitLab token", b"gl", rb"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[\w-]{20,}"),
    ("an Atlassian token", b"at", rb"\bAT(?:ATT3|CTT3|BB)[\w-]{24,}"),
    ("a package index token", b"npm_", rb"\bnpm_[A-Za-z0-9]{36}"),
    ("a package index token", b"_authtoken", rb"_authToken\s*=\s*[\w-]{20,}"),
    ("a package index token", b"pypi-age", rb"\bpypi-AgE[\w-]{50,}"),
    ("a package index token", b"dckr_pat_", rb"\bdckr_pat_[\w-]{20,}"),
    ("a package index token", b"rubygems_", rb"\brubygems_[0-9a-f]{48}"),
    # servers of models, and trackers of experiments
    ("a key of a model server", b"sk-", rb"\bsk-(?:proj-|ant-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{40,}"),
    ("a key of a model server", b"gsk_", rb"\bgsk_[A-Za-z0-9]{40,}"),
    ("a key of a model server", b"r8_", rb"\br8_[A-Za-z0-9]{37,}"),
    ("a key of a model server", b"nvapi-", rb"\bnvapi-[\w-]{60,}"),
    ("a tracker's key", b"wandb_v1_", rb"\bwandb_v1_\w{40,}"),
    ("a tracker's key", b"wandb", rb"(?i:\bwandb[\w.-]{0,30})" + _NAMED + rb"[0-9a-f]{40}\b"),
    ("a tracker's key", b"comet", rb"(?i:\bcomet[\w.-]{0,30})" + _NAMED + rb"[A-Za-z0-9]{25}\b"),
    ("a tracker's key", b"eyjhcglfywrkcmvzcyi6", rb"\beyJhcGlfYWRkcmVzcyI6[\w=-]{40,}"),
    ("a tracker's key", b"lin_api_", rb"\blin_api_[A-Za-z0-9]{40}"),
    # chat, mail and payment
    ("a Slack token", b"xox", rb"\bxox[abeoprs]-[\w-]{10,}"),
    ("a Slack token", b"xapp-", rb"\bxapp-\d-[\w-]{20,}"),
    ("a Slack address", b"hooks.slack.com/", rb"hooks\.slack\.com/(?:services|workflows)/T\w{8,}/[\w/]{15,}"),
    ("a Discord token", b".", rb"\b[MNO][\w-]{23,28}\.[\w-]{6}\.[\w-]{27,40}\b"),
    ("a Discord address", b"/api/webhooks/", rb"/api/webhooks/\d+/[\w-]{40,}"),
    ("a Telegram token", b":aa", rb"\b\d{8,10}:AA[\w-]{33}\b"),
    ("a key of a mail service", b"sg.", rb"\bSG\.[\w-]{22}\.[\w-]{43}"),
    ("a key of a mail service", b"key-", rb"\bkey-[0-9a-f]{32}\b"),
    ("a key of a mail service", b"-us", rb"\b[0-9a-f]{32}-us\d{1,2}\b"),
    ("a Twilio key", b"sk", rb"\bSK[0-9a-f]{32}\b"),
    ("a payment key", b"k_", rb"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}"),
    ("a payment key", b"whsec_", rb"\bwhsec_[A-Za-z0-9+/]{30,}"),
    ("a payment key", b"sq0", rb"\bsq0(?:atp|csp|idp)-[\w-]{22,}"),
    ("a payment key", b"access_token$", rb"\baccess_token\$(?:production|sandbox)\$\w{16}\$[0-9a-f]{32}"),
    ("a shop's token", b"shp", rb"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    # what is named as a secret and mixes letters and digits, as no name and no example does
    ("a password", b"", rb"(?i:pass(?:word|wd)|secret[_-]?(?:access[_-]?)?key|client[_-]?secret|api[_-]?key|"
     rb"(?:access|auth)[_-]?token)[\"']?\s{0,4}[:=]\s{0,4}[\"'](?=[^\"'\s]*\d)(?=[^\"'\s]*[A-Za-z])[^\"'\s<>{}$*]{16,}[\"']"),
)  # fmt: skip
_PATTERNS = tuple((what, needle, re.compile(pattern)) for what, needle, pattern in SECRETS)


def find_secret(path: Path, known: Iterable[str] = ()) -> str | None:
    r"""
    Says which secret a file holds, in any encoding of Unicode.

    Safetensors are searched in their header (names and metadata), parquet files in their footer, and all other files
    throughout.

    Args:
        path (`Path`): The file.
        known (`Iterable[str]`): Texts of further secrets, such as the token in use.

    Returns:
        `str`: The kind of secret (and not its text), such as `"a GitHub token"`; `None` if there is none.
    """
    known = [secret.encode() for secret in known if secret]
    for content in _contents(path):
        # UTF-16 and UTF-32 put zeros between the letters
        for view in (content, content.replace(b"\0", b"")) if b"\0" in content else (content,):
            if any(secret in view for secret in known):
                return "the token in use"
            lower = view.lower()
            for what, needle, pattern in _PATTERNS:
                if needle in lower and pattern.search(view):
                    return what
    return None


def _contents(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            yield file.read(int.from_bytes(file.read(8), "little"))
            return
        if path.suffix == ".parquet":  # the rest is compressed
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            file.seek(max(0, size - 8 - int.from_bytes(file.read(4), "little")))
        before = b""
        while chunk := file.read(CHUNK_BYTES):
            yield before + chunk
            before = chunk[-OVERLAP_BYTES:]


def is_pickle(path: Path) -> bool:
    r"""
    Says whether `pickle.load` or `torch.load` would accept a file, whatever its protocol and name.

    The old protocols have no mark at their start, so the file is read as a pickle in which every name is a dummy, and
    no code runs.

    Args:
        path (`Path`): The file.

    Returns:
        `bool`: Whether it is a pickle; true also for one that would fail after it had run code.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    with path.open("rb") as file:
        start = file.read(2)
        if len(start) == 2 and start[:1] == pickle.PROTO and start[1] <= pickle.HIGHEST_PROTOCOL:
            return True
        file.seek(0)
        try:
            _DummyUnpickler(file).load()
        except _CallError:
            return True
        except Exception:  # the bytes of another format may raise anything
            return False
    return True


class _CallError(Exception):
    """Raised where a pickle calls something."""


class _Dummy(type):
    """Stands for every name in a pickle; calling it or its methods raises an error."""

    def __call__(cls, *args, **kwargs):
        raise _CallError


class _DummyUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return _Dummy("Dummy", (), {"__new__": _Dummy.__call__, "__setstate__": _Dummy.__call__})

    def persistent_load(self, pid):
        return None


def hide_credentials(text: str) -> str:
    """
    Hides user names, passwords and queries in the URLs of a text, such as an error.

    Args:
        text (`str`): Text that a server sent, or that repeats what a caller passed.

    Returns:
        `str`: The text with `<hidden>` in their place. A URL as a `Path`, with one slash less, counts too.

    Example:

    ```python
    >>> from seed_hf.hub.secrets import hide_credentials
    >>> hide_credentials("no file https://somebody@host/a.pth?sig=abc here")
    'no file https://<hidden>@host/a.pth?<hidden> here'

    ```
    """
    text = re.sub(r"(\w:/{1,2}[^\s?'\"<>]+)\?[^\s'\"<>]+", r"\1?<hidden>", text)
    return re.sub(r"(\w:/{1,2})[^\s/'\"<>]*@", r"\1<hidden>@", text)


__all__ = ["find_secret", "hide_credentials", "is_pickle"]
