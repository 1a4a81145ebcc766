"""The files of a Space, and their upload."""

import pytest
import yaml

from seed_hf import __version__
from seed_hf.commands import main


@pytest.fixture(scope="module")
def space():
    """The module; at the top of the file its imports would cost every worker seconds."""
    pytest.importorskip("gradio", reason="the card names its version")
    from seed_hf.app import space

    return space


def test_files(space, tmp_path):
    space.write_space(tmp_path, "owner/model")
    app = (tmp_path / "app.py").read_text()
    compile(app, "app.py", "exec")
    assert "run_app('owner/model'" in app
    card = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", ["owner/model"])
    assert len(card["short_description"]) <= 60  # the Hub takes no more
    assert (tmp_path / "requirements.txt").read_text() == f"seed_hf[app]=={__version__}\n"


def test_a_folder_of_this_machine_is_refused(space, tmp_path):
    with pytest.raises(ValueError, match="`model` is .*allowed for a Space"):
        space.space_files(str(tmp_path))
    with pytest.raises(ValueError, match="`repo_id` is 'name'; allowed: owner/name"):
        space.push_space("name")


def test_push(space, hub, capsys):
    assert main(["app", "--push-to-hub", "owner/space"]) == 0
    assert "owner/space" in capsys.readouterr().out
    files = hub.files("owner/space", repo_type="space")
    assert {name: files[name].decode() for name in space.space_files()} == space.space_files()
    assert main(["app", "--push-to-hub", "owner/space", "--images", "mine"]) == 1
    assert "--images is for a page on this machine" in capsys.readouterr().err
    assert main(["app", "--private"]) == 1
    # once more, onto what is there
    space.push_space("owner/space", requirement="seed_hf[app]")
    assert hub.files("owner/space", repo_type="space")["requirements.txt"] == b"seed_hf[app]\n"
