"""Cards: filled from files, valid on a server, and without a number that no run wrote."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from peft import LoraConfig, get_peft_model
from tiny.demo import build_seed, save_pipeline
from tiny.hub import write_codes_folder

from seed_hf import SeedImageProcessor
from seed_hf.cards import write_card
from seed_hf.cards.emissions import WORLD_INTENSITY
from seed_hf.cards.origins import find_origins
from seed_hf.commands import main
from seed_hf.evaluation import EvaluationReport, RunSettings, evaluate_retrieval
from seed_hf.hub.files import find_repository_files
from seed_hf.licences import HUB_LICENCES, LICENCES, SEED_2_TERMS
from seed_hf.provenance import describe_model


# PEFT asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each kind."""
    folder = tmp_path_factory.mktemp("cards")
    image_tokenizer = save_pipeline(folder / "pipeline")
    image_tokenizer.save_pretrained(folder / "image_tokenizer")
    model, processor = build_seed(image_tokenizer)
    model.save_pretrained(folder / "language_model")
    processor.save_pretrained(folder / "language_model")
    SeedImageProcessor().save_pretrained(folder / "image_tokenizer")
    adapted = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM", **model.lora_settings()))
    adapted.peft_config["default"].base_model_name_or_path = "owner/base"
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return lambda kind: Path(shutil.copytree(saved / kind, tmp_path / kind))


def save_report(path: Path, folder: Path, *, task="caption", scores=None, model=None, **data) -> Path:
    """A report as `seed-hf eval` writes it."""
    model = model or describe_model(folder, folder)
    data = {"dataset": "nocaps", "split": "val", "num_images": 4, "num_skipped": 0, "sha256": "ab" * 32, **data}
    settings = {"prompt": "a photo of", "generation": {"num_beams": 5}, "batch_size": 4, "seed": 0}
    scores = {"CIDEr": 81.25, "BLEU-4": 30.0} if scores is None else scores
    EvaluationReport(task, scores, {"SPICE": "needs Java"}, {"language_model": model}, data, settings, 1.5).save(path)
    return path


def save_log(folder: Path, **arguments) -> Path:
    """A training log as the training engine writes it: 2 hours."""
    folder.mkdir(exist_ok=True)
    arguments = {"recipe": "training/recipes/seed-1/stage3a.yaml", "batch_size": 4, "seed": 42} | arguments
    arguments = {
        "global_batch_size": 16,
        "learning_rate": 1e-4,
        "mixed_precision": "bf16",
        "dataset": "cc3m",
    } | arguments
    (folder / "training_arguments.json").write_text(json.dumps(arguments))
    lines = [{"step": step, "loss": 1.0, "seconds": 3600.0} for step in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    machine = {"machine": "8 x NVIDIA A100", "num_processes": 8, "versions": {}}
    (folder / "training_machine.json").write_text(json.dumps(machine))
    return folder


METADATA = {
    "image_tokenizer": ("transformers", "image-feature-extraction"),
    "language_model": ("transformers", "any-to-any"),
    "adapter": ("peft", "any-to-any"),
    "pipeline": ("diffusers", "text-to-image"),
}


@pytest.mark.parametrize("kind", METADATA)
def test_every_kind_of_model(kind, copy, hub, tmp_path):
    folder = copy(kind)
    before = set(find_repository_files(folder))
    log = save_log(tmp_path / "log")
    write_card(folder, f"owner/{kind}", licence="mit", training=[log], datasets=["owner/pictures"])
    card = ModelCard.load(folder / "README.md")
    card.validate()
    metadata = card.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == METADATA[kind]
    assert metadata["license"] == "mit" and metadata["datasets"] == ["owner/pictures"]
    assert {"seed", "custom_code"} <= set(metadata["tags"])
    if kind == "adapter":
        assert metadata["base_model"] == "owner/base" and metadata["base_model_relation"] == "adapter"
    assert "semantic, not pixel reconstructions" in card.text.lower() and "arXiv:2307.08041" in card.text
    for heading in (
        "Use",
        "Intended use",
        "Limits",
        "Training",
        "Hardware and emissions",
        "Results",
        "Licence",
        "Citation",
    ):
        assert f"# {heading}\n" in card.text, heading
    assert "20 steps of 16 samples, learning rate 0.0001, precision bf16, seed 42, data `cc3m`" in card.text
    assert "2.00 hours on 8 x NVIDIA A100" in card.text
    assert "{" not in re.sub(r"```.*?```", "", card.text, flags=re.DOTALL) and "There are none:" in card.text
    for code in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL):
        compile(code, "card", "exec")
        assert f'"owner/{kind}"' in code
    assert set(find_repository_files(folder)) == before | {"README.md"}


def test_codes(tmp_path, hub):

    folder = write_codes_folder(tmp_path / "codes")
    write_card(folder, "owner/codes", licence="cc-by-4.0")
    card = DatasetCard.load(folder / "README.md")
    card.validate()
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert card.data.size_categories == ["n<1K"] and "| train | 2 | 0 | cc3m | `ab12` |" in card.text
    assert "README.md" in find_repository_files(folder)
    description = json.loads((folder / "encoding-train.json").read_text())
    (folder / "encoding-test.json").write_text(json.dumps({**description, "weights": "other"}))
    with pytest.raises(ValueError, match="splits of different weights"):
        write_card(folder, "owner/codes", licence="cc-by-4.0")


# ------------------------------------------------------------------------------------------------ results
def test_numbers_of_a_real_run(copy, hub, tmp_path):
    """From `seed-hf eval` to the metadata, by the command line."""
    folder = copy("pipeline")
    report = evaluate_retrieval(str(folder), "training/data/emoji", "test_concepts", RunSettings(limit=6))
    report.save(tmp_path / "retrieval.json")
    command = [
        "card",
        str(folder),
        "owner/pipeline",
        "--licence",
        "mit",
        "--evaluation",
        str(tmp_path / "retrieval.json"),
    ]
    assert main(command) == 0
    scores = json.loads((tmp_path / "retrieval.json").read_text())["scores"]
    card = ModelCard.load(folder / "README.md")
    card.validate()
    assert scores and {result.metric_name: result.metric_value for result in card.data.eval_results} == scores
    assert {result.task_type for result in card.data.eval_results} == {"image-feature-extraction"}
    # again, from the copy in the repository, which does not count as another model
    (report,) = (folder / "evaluation").iterdir()
    assert report.read_bytes() == (tmp_path / "retrieval.json").read_bytes()
    write_card(folder, "owner/pipeline", licence="mit", evaluations=[report])
    assert (folder / "README.md").read_text() == str(card)


def test_results_in_three_places(copy, tmp_path, hub):
    folder = copy("language_model")
    report = save_report(tmp_path / "nocaps.json", folder)
    local = save_report(tmp_path / "local.json", folder, task="vqa", scores={"accuracy": 50.0}, dataset="/data/my vqa")
    ids = {"nocaps": "owner/nocaps"}
    card = write_card(folder, "owner/lm", licence="mit", evaluations=[report, local], dataset_ids=ids)
    card.validate()
    (first, *_) = card.data.eval_results
    assert (first.dataset_type, first.dataset_split, first.metric_name, first.metric_value) == (
        "nocaps",
        "val",
        "CIDEr",
        81.25,
    )
    assert first.dataset_args == {"sha256": "ab" * 32}
    assert "| Captions | nocaps val | CIDEr | 81.25 |" in card.text and "SPICE: needs Java" in card.text
    assert "/data" not in str(card)
    assert json.loads((folder / "evaluation" / "caption-nocaps-val.json").read_text())["scores"]["CIDEr"] == 81.25
    # of data that is not on the Hub there is no entry
    (file,) = (folder / ".eval_results").iterdir()
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("owner/nocaps", "caption_val_CIDEr", 81.25),
        ("owner/nocaps", "caption_val_BLEU_4", 30.0),
    ]
    assert {".eval_results/caption-nocaps-val.yaml", "evaluation/vqa-my-vqa-val.json"} <= set(
        find_repository_files(folder)
    )
    # a card without the results leaves none behind where leaderboards read
    write_card(folder, "owner/lm", licence="mit")
    assert not (folder / ".eval_results").exists()


def test_no_number_without_a_run(copy, tmp_path):
    folder, other = copy("language_model"), copy("image_tokenizer")
    card = {"licence": "mit"}
    foreign = save_report(tmp_path / "foreign.json", other)
    with pytest.raises(ValueError, match=r"measured the weights .* allowed: .* those in"):
        write_card(folder, "owner/lm", evaluations=[foreign], **card)
    # one weight changed after the run
    report = save_report(tmp_path / "report.json", folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="measured the weights"):
        write_card(folder, "owner/lm", evaluations=[report], **card)
    for content in ("not JSON", '{"scores": {"CIDEr": 99.0}}', '{"task": "caption", "scores": {"CIDEr": 99.0}}', "[]"):
        (tmp_path / "made_up.json").write_text(content)
        with pytest.raises(ValueError, match="no report of `seed-hf eval`"):
            write_card(folder, "owner/lm", evaluations=[tmp_path / "made_up.json"], **card)
    for scores in ({"CIDEr": "99"}, {"CIDEr": float("nan")}, {"CIDEr": True}):
        bad = save_report(tmp_path / "bad.json", folder, scores=scores)
        with pytest.raises(ValueError, match="bad.json"):
            write_card(folder, "owner/lm", evaluations=[bad], **card)
    good = save_report(tmp_path / "good.json", folder)
    with pytest.raises(ValueError, match="several reports of the same task and data"):
        write_card(folder, "owner/lm", evaluations=[good, good], **card)
    assert not (folder / "README.md").exists()


# ------------------------------------------------------------------------------------------------ licences
def write_record(folder: Path, **values):
    (folder / "conversion.json").write_text(json.dumps(values))


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "conversion.json").write_text(content)
    with pytest.raises(ValueError, match=r"conversion\.json` is no JSON object"):
        find_origins(tmp_path)
    write_record(tmp_path, kind=["seed-2"])
    assert find_origins(tmp_path) == ([], [])


def test_research_clause_of_seed_2(copy, hub, tmp_path):
    """On the card of converted weights, and of all that was trained from them."""
    folder, trained = copy("image_tokenizer"), copy("language_model")
    write_record(folder, kind="seed-2")
    save_log(trained, image_tokenizer=str(folder), language_model="facebook/opt-2.7b")
    for made, repo_id in ((folder, "owner/seed-2"), (trained, "owner/lm")):
        card = write_card(made, repo_id)
        card.validate()
        assert (card.data.license, card.data.license_name) == ("other", "seed-2-research-only")
        assert card.data.license_link.startswith("https://github.com/AILab-CVC/SEED/")
        assert SEED_2_TERMS in card.text
        with pytest.raises(
            ValueError, match="`licence` is 'apache-2.0'; allowed for weights made from seed-2: 'other'"
        ):
            write_card(made, repo_id, licence="apache-2.0")
    assert card.data.base_model == "facebook/opt-2.7b"
    assert card.data.base_model_relation == "finetune"
    codes = write_codes_folder(tmp_path / "codes")
    file = codes / "encoding-train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_tokenizer": str(folder)}))
    assert find_origins(codes)[0] == ["seed-2"]
    save_log(trained, codes=str(codes))
    assert find_origins(trained)[0] == ["seed-2"]


@pytest.mark.parametrize(
    "records, wanted, mentioned",
    [
        ([{"kind": "seed-1"}], "apache-2.0", ["seed-1"]),
        ([{"kind": "blip-2"}], "bsd-3-clause", ["blip-2"]),
        ([{"kind": "seed-llama"}], "other", ["seed-2"]),
        ([{"kind": "seed-1"}, {"kind": "pipeline", "decoder": "x/stable-diffusion-v1-4"}],
         "creativeml-openrail-m", ["stable-diffusion-1", "seed-1"]),
        ([{"kind": "seed-2"}, {"kind": "pipeline", "decoder": "sd2-community/stable-diffusion-2-1-unclip"}],
         "other", ["seed-2", "stable-diffusion-2"]),
    ],
)  # fmt: skip
def test_licence_by_origin(copy, records, wanted, mentioned, hub):
    folder = copy("pipeline")
    write_record(folder / "image_tokenizer", **records[0])
    for record in records[1:]:
        write_record(folder, **record)
    card = write_card(folder, "owner/pipeline")
    card.validate()
    assert card.data.license == wanted
    assert find_origins(folder)[0] == mentioned and all(LICENCES[name].text in card.text for name in mentioned)


def test_licence_of_own_weights(copy):
    folder = copy("image_tokenizer")
    with pytest.raises(ValueError, match="`licence` is None, and the weights have no known origin"):
        write_card(folder, "owner/x")
    with pytest.raises(ValueError, match="`licence` is 'mitt'; allowed: an identifier of the Hub, one of .*'mit'"):
        write_card(folder, "owner/x", licence="mitt")
    assert {licence.id for licence in LICENCES.values()} <= set(HUB_LICENCES)
    with pytest.raises(ValueError, match="'other' without a name and a link"):
        write_card(folder, "owner/x", licence="other")
    card = write_card(folder, "owner/x", licence="other", licence_name="mine", licence_link="https://example.org")
    assert card.data.license_name == "mine" and "[mine](https://example.org)" in card.text


# ------------------------------------------------------------------------------------------------ the rest
def test_emissions(copy, tmp_path, hub):
    folder, log = copy("image_tokenizer"), save_log(tmp_path / "log")
    card = write_card(folder, "owner/x", licence="mit", training=[log, log], power_watts=500, carbon_intensity=300)
    card.validate()
    emitted = card.data.to_dict()["co2_eq_emissions"]
    assert emitted["emissions"] == 4 * 0.5 * 300 and emitted["hardware_used"] == "8 x NVIDIA A100"
    assert "4.00 hours" in card.text and "500 W" in emitted["source"] and "About 600.0 g CO2eq" in card.text
    with pytest.raises(ValueError, match="'power_watts': -1.* is negative"):
        write_card(folder, "owner/x", licence="mit", training=[log], power_watts=-1)
    with pytest.raises(ValueError, match="no log in `training` has hours"):
        write_card(folder, "owner/x", licence="mit", power_watts=500)
    with pytest.raises(ValueError, match="has no metrics.jsonl"):
        write_card(folder, "owner/x", licence="mit", training=[tmp_path])


def test_emissions_from_the_log_alone(copy, tmp_path):
    """Eight GPUs of 400 W for two hours, and what a log leaves open."""
    folder, log, other = copy("image_tokenizer"), save_log(tmp_path / "log"), save_log(tmp_path / "other")
    card = write_card(folder, "owner/x", licence="mit", training=[log])
    grams = 2 * 8 * 0.4 * WORLD_INTENSITY
    assert card.data.to_dict()["co2_eq_emissions"]["emissions"] == pytest.approx(grams)
    assert f"About {grams:,.1f} g CO2eq, an estimate: hours of the training log x 3200 W" in card.text
    (other / "metrics.jsonl").write_text('{"step": 7, "loss": 1.0}\n')
    card = write_card(folder, "owner/x", licence="mit", training=[log, other])
    assert card.data.to_dict()["co2_eq_emissions"]["emissions"] == pytest.approx(grams)
    assert "Without `stage3a`: no time in the log." in card.text
    (log / "training_machine.json").write_text('{"machine": "1 x Unheard Of", "num_processes": 1}')
    card = write_card(folder, "owner/x", licence="mit", training=[log])
    assert "co2_eq_emissions" not in card.data.to_dict() and "2.00 hours on 1 x Unheard Of" in card.text
    assert "what that machine draws is not known" in card.text


def test_notes(copy, tmp_path):
    folder, notes = copy("image_tokenizer"), tmp_path / "notes.md"
    notes.write_text("## Data\n\nEmoji, 8,091 of them ([arXiv 2307.08041](https://arxiv.org/abs/2307.08041)).\n")
    assert notes.read_text().strip() in write_card(folder, "owner/x", licence="mit", notes=notes).text
    for result in ("R@1 is 54 %", "CIDEr: 81.2", "66.0%"):
        notes.write_text(f"A fine model. {result}")
        with pytest.raises(ValueError, match="`notes` .* allowed: no results"):
            write_card(folder, "owner/x", licence="mit", notes=notes)


@pytest.mark.parametrize(
    "arguments", [{"base_model": "./out/stage3"}, {"datasets": ["/data/cc3m"]}, {"repo_id": "a/b/c"}], ids=str
)
def test_local_paths_are_no_ids(copy, arguments):
    folder = copy("language_model")
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` is .*; allowed: ids of repositories on the Hub"):
        write_card(folder, **{"repo_id": "owner/lm", "licence": "mit"} | arguments)
    with pytest.raises(ValueError, match="`dataset_ids` is"):
        write_card(folder, "owner/lm", licence="mit", dataset_ids={"coco": "/data/coco"})


def test_server_finds_what_is_wrong(copy, hub):
    """The server's validation can fail: a card that was changed by hand."""
    card = write_card(copy("image_tokenizer"), "owner/x", licence="mit")
    for name, value in (("license", "mine"), ("base_model", "./out"), ("license", "other")):
        changed = ModelCard(str(card))
        changed.data[name] = value
        with pytest.raises(ValueError, match=name):
            changed.validate()


def test_no_repository(tmp_path):
    with pytest.raises(ValueError, match="`folder` is .*; allowed: a model, an adapter, a pipeline, or codes"):
        write_card(tmp_path, "owner/x", licence="mit")
