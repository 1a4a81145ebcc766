"""The files of a Space, and their upload."""

import pytest
import yaml


pytest.importorskip("gradio", reason="the card names its version")
from seed_hf import __version__  # noqa: E402
from seed_hf.app.space import push_space, space_files, write_space  # noqa: E402
from seed_hf.commands import main  # noqa: E402


def test_files(tmp_path):
    write_space(tmp_path, "owner/model")
    app = (tmp_path / "app.py").read_text()
    compile(app, "app.py", "exec")
    assert "run_app('owner/model'" in app
    card = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", ["owner/model"])
    assert len(card["short_description"]) <= 60  # the Hub takes no more
    assert (tmp_path / "requirements.txt").read_text() == f"seed_hf[app]=={__version__}\n"


def test_a_folder_of_this_machine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`model` is .*allowed for a Space"):
        space_files(str(tmp_path))
    with pytest.raises(ValueError, match="`repo_id` is 'name'; allowed: owner/name"):
        push_space("name")


def test_push(hub, capsys):
    assert main(["app", "--push-to-hub", "owner/space"]) == 0
    assert "owner/space" in capsys.readouterr().out
    files = hub.files("owner/space", repo_type="space")
    assert {name: files[name].decode() for name in space_files()} == space_files()
    # once more, onto what is there
    push_space("owner/space", requirement="seed_hf[app]")
    assert hub.files("owner/space", repo_type="space")["requirements.txt"] == b"seed_hf[app]\n"
