"""The evaluations end to end on toy models: standard layouts, reports, resuming, processes, unreadable pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import processes
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image
from safetensors.torch import save_file
from tiny.demo import build_seed, save_pipeline
from tiny.pictures import build_images
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from seed_hf.commands import main
from seed_hf.data import resumable
from seed_hf.data.reading import TooManyUnreadableSamplesError
from seed_hf.evaluation import (
    EvaluationReport,
    RunSettings,
    caption_metrics,
    evaluate_captions,
    evaluate_reconstruction,
    evaluate_retrieval,
    evaluate_vqa,
    load_captioned_rows,
    load_question_rows,
)
from seed_hf.evaluation.predictor import Predictor, run_predictor
from seed_hf.evaluation.retrieval import pair_texts


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """Scores are tested in test_caption_metrics.py; here starting Java would only take time."""
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """`pipeline/` and `language_model/` with its image tokenizer inside."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    image_tokenizer = save_pipeline(folder / "pipeline")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    model.save_pretrained(folder / "language_model")
    processor.save_pretrained(folder / "language_model")
    return folder


def save_numbered(folder, names):
    folder.mkdir(parents=True)
    for name, picture in zip(names, build_images(len(names)), strict=True):
        picture.save(folder / name)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Six pictures in the layout of COCO's Karpathy split, with two captions each, the last unreadable."""
    folder = tmp_path_factory.mktemp("coco")
    names = [f"COCO_val2014_{number:012d}.jpg" for number in range(6)]
    save_numbered(folder / "val2014", names)
    (folder / "val2014" / names[5]).write_bytes(b"no picture")
    sentences = [[{"raw": f"a cat {number}"}, {"raw": f"two dogs {number}"}] for number in range(6)]
    images = [
        {"filename": name, "filepath": "val2014", "split": "test", "sentences": texts}
        for name, texts in zip(names, sentences, strict=True)
    ]
    images.append({"filename": "COCO_val2014_9.jpg", "split": "train", "sentences": [{"raw": "not of this split"}]})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return folder


@pytest.fixture(scope="module")
def vqa(tmp_path_factory):
    """Three questions about two pictures, as VQAv2 has them."""
    folder = tmp_path_factory.mktemp("vqa")
    save_numbered(folder / "val2014", [f"COCO_val2014_{number:012d}.jpg" for number in (7, 8)])
    questions = [{"question_id": 10 + i, "image_id": 7 + i % 2, "question": f"what {i}?"} for i in range(3)]
    answers = [{"answer": "cat", "answer_id": i} for i in range(9)] + [{"answer": "a dog", "answer_id": 9}]
    annotations = [
        {"question_id": 10 + i, "answer_type": "other" if i else "number", "answers": answers} for i in range(3)
    ]
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"questions": questions, "data_subtype": "val2014"})
    )
    (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotations}))
    return folder


def same_but_time(report, other):
    first, second = vars(report).copy(), vars(other).copy()
    for values in (first, second):
        del values["seconds"], values["started"]
    return first == second


def test_retrieval_of_a_karpathy_split(models, coco, tmp_path):
    settings = RunSettings(work_dir=tmp_path / "work", batch_size=2)
    report = evaluate_retrieval(models / "pipeline", str(coco), "test", settings)
    assert report.data["num_images"] == 5 and report.data["num_skipped"] == 1
    assert report.data["num_texts"] == 10 and not report.settings["merge_equal_captions"]
    assert {f"{source}_i2t_r10" for source in ("causal_embeddings", "codes")} <= set(report.scores)
    assert report.scores["causal_embeddings_t2i_r5"] == 100  # there are five pictures
    assert report.models["image_tokenizer"]["revision"] is None and len(report.data["sha256"]) == 64
    report.save(tmp_path / "report.json")
    assert vars(EvaluationReport.load(tmp_path / "report.json")) == vars(report)
    # anew from nothing, and from what is kept: the same to the last digit
    anew = evaluate_retrieval(models / "pipeline", str(coco), "test", RunSettings(batch_size=2))
    assert same_but_time(anew, report)
    (part,) = (tmp_path / "work").glob("*.parquet")
    written = part.stat().st_mtime_ns
    assert same_but_time(evaluate_retrieval(models / "pipeline", str(coco), "test", settings), report)
    assert part.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="was made with .*'references'"):
        evaluate_retrieval(models / "pipeline", str(coco), "test", replace(settings, limit=3))


def test_content_hash_follows_pictures_and_captions(models, coco, tmp_path):
    def hash_of(change):
        folder = tmp_path / change
        save_numbered(folder / "val2014", [f"{number}.png" for number in range(2)])
        if change == "picture":
            Image.new("RGB", (9, 9), "red").save(folder / "val2014" / "0.png")
        texts = ["a cat", "an owl" if change == "caption" else "a dog"]
        images = [
            {"filename": f"{i}.png", "split": "test", "sentences": [{"raw": text}]} for i, text in enumerate(texts)
        ]
        (folder / "dataset_coco.json").write_text(json.dumps({"images": images}))
        return evaluate_retrieval(models / "pipeline", str(folder), "test").data["sha256"]

    hashes = {change: hash_of(change) for change in ("nothing", "place", "picture", "caption")}
    assert hashes["nothing"] == hashes["place"] and len(set(hashes.values())) == 3


class Colours(Predictor):
    """The first pixel of each image."""

    def load(self):
        pass

    def predict(self, rows, numbers):
        return [{"colour": row["image"].getpixel((0, 0))[0]} for row in rows]


def test_a_work_folder_follows_its_images_and_finds_damage(tmp_path):
    def draw(number, value):
        Image.new("RGB", (4, 4), (value, 0, 0)).save(tmp_path / f"{number}.png")

    def run():
        records = [{"key": str(n), "image": {"bytes": None, "path": str(tmp_path / f"{n}.png")}} for n in range(4)]
        rows = Dataset.from_list(records).cast_column("image", ImageFeature(decode=False))
        found, counts = run_predictor(Colours(), rows, tmp_path / "work", {"task": "colours"}, rows_per_part=2)
        return [row["colour"] for row in found], counts["pictures_sha256"]

    for number in range(4):
        draw(number, value=number + 1)
    colours, before = run()
    parts = sorted((tmp_path / "work").glob("part-*.parquet"))
    written = [part.stat().st_mtime_ns for part in parts]
    assert colours == [1, 2, 3, 4] and run() == (colours, before)
    assert [part.stat().st_mtime_ns for part in parts] == written
    draw(3, value=9)
    colours, after = run()
    assert colours == [1, 2, 3, 9] and after != before
    assert parts[0].stat().st_mtime_ns == written[0] and parts[1].stat().st_mtime_ns > written[1]
    parts[0].write_bytes(parts[1].read_bytes())
    assert run() == (colours, after)
    parts[1].write_bytes(parts[1].read_bytes()[:-50])
    assert run() == (colours, after)


def test_a_damaged_report_is_named(tmp_path):
    no_scores = {
        "task": "vqa",
        "scores": 3,
        "not_measured": {},
        "models": {},
        "data": {},
        "settings": {},
        "seconds": 1,
    }
    for content in (b'{"task": "vq', b'{"task": "vqa"}', b"\xff", b"[" * 100_000, json.dumps(no_scores).encode()):
        (tmp_path / "report.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"report\.json' is not a report of `seed-hf eval`"):
            EvaluationReport.load(tmp_path / "report.json")


def test_equal_captions_are_one_text_where_asked():
    references = [["a", "b"], ["b"]]
    assert pair_texts(references, merge_equal=True) == (["a", "b"], [[0, 1], [1]])
    assert pair_texts(references, merge_equal=False) == (["a", "b", "b"], [[0, 1], [2]])


def test_processes_and_parts_give_the_same_captions(models, coco, tmp_path, monkeypatch):
    """Two processes on parts of two pictures, against one process; then after losing a part."""
    from seed_hf.evaluation import measuring, predictor

    def in_parts(predicts, rows, work_dir, description, run, rows_per_part):
        return predictor.run_predictor(predicts, rows, work_dir, description, run, rows_per_part=2)

    monkeypatch.setattr(measuring, "run_predictor", in_parts)
    monkeypatch.setattr(resumable, "torch", processes.TORCH)
    arguments = {"model": models / "language_model", "dataset": str(coco), "metrics": ["BLEU-4"], "num_beams": 2}
    alone = evaluate_captions(**arguments, settings=RunSettings(batch_size=2))
    assert alone.settings["prompt"] == "<image>a photo of" and alone.data["num_skipped"] == 1
    assert alone.settings["generation"]["num_beams"] == 2 and alone.settings["generation"]["min_new_tokens"] == 8
    kept = RunSettings(batch_size=2, work_dir=tmp_path)
    assert same_but_time(evaluate_captions(**arguments, settings=replace(kept, num_processes=2)), alone)
    lost = sorted(tmp_path.glob("part-*.parquet"))[1]
    before = lost.read_bytes()
    lost.unlink()
    assert same_but_time(evaluate_captions(**arguments, settings=kept), alone)
    assert lost.read_bytes() == before


def test_domains_of_nocaps(models, tmp_path):
    save_numbered(tmp_path / "images", ["a.jpg", "b.jpg"])
    images = [{"id": 1, "file_name": "a.jpg", "domain": "in"}, {"id": 2, "file_name": "b.jpg", "domain": "out"}]
    annotations = [{"image_id": 1 + i % 2, "caption": f"a cat {i}"} for i in range(4)]
    (tmp_path / "nocaps_val_4500_captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    rows = load_captioned_rows(str(tmp_path), "val")
    assert rows["captions"][:] == [["a cat 0", "a cat 2"], ["a cat 1", "a cat 3"]]
    report = evaluate_captions(models / "language_model", str(tmp_path), "val", metrics=["ROUGE-L"], prompt="model")
    assert set(report.scores) == {"ROUGE-L", "in domain ROUGE-L", "out domain ROUGE-L"}
    assert report.settings["prompt"] == "<image>A photo of"


def test_questions_of_vqav2(models, vqa):
    rows = load_question_rows(str(vqa), "val")
    assert rows["key"][:] == ["10", "11", "12"] and len(rows[0]["answers"]) == 10
    report = evaluate_vqa(models / "language_model", str(vqa), "val", num_beams=1)
    assert report.settings["prompt"] == "<image>Question: {question} Short answer."
    assert {"vqa_accuracy", "vqa_accuracy, other", "vqa_accuracy, number"} == set(report.scores)


def test_questions_of_gqa(tmp_path):
    save_numbered(tmp_path / "images", ["n1.jpg"])
    record = {"imageId": "n1", "question": "Is it red?", "answer": "yes", "types": {"structural": "verify"}}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps({"201": record}))
    (row,) = load_question_rows(str(tmp_path), "testdev")
    assert (row["key"], row["answers"], row["question_type"]) == ("201", ["yes"], "verify")
    assert Path(row["image"]["path"]).is_file()


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("answers", [{"answer": "cat"}, {"answer": "dog"}], ["cat", "dog"]),
        ("answers", {"answer": ["cat", "dog"]}, ["cat", "dog"]),
        ("answer", "cat", ["cat"]),
    ],
)
def test_questions_of_a_parquet_file(column, values, expected, tmp_path):
    image = {"bytes": b"", "path": "1.png"}
    row = {"image": image, "question": "what?", column: values, "question_id": 7, "answer_type": "other"}
    Dataset.from_list([row, row]).to_parquet(tmp_path / "val.parquet")
    first, _ = load_question_rows(str(tmp_path / "{split}.parquet"), "val")
    assert (first["answers"], first["key"], first["question_type"]) == (expected, "7", "other")
    Dataset.from_list([{"image": image, "question": "what?"}]).to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="allowed: 'image', 'question' and 'answers' or 'answer'"):
        load_question_rows(str(tmp_path / "{split}.parquet"), "bare")


def test_questions_about_emoji():
    rows = load_question_rows("emoji", "test_concepts", limit=20)
    assert set(rows["question_type"]) <= {"What is this?", "What kind of thing is this?", "yes/no"}
    assert rows["answers"][:] == load_question_rows("emoji", "test_concepts", limit=20)["answers"][:]


def test_answers_are_scored_by_what_was_said(models, tmp_path, monkeypatch):
    """The model's own words as the reference: everything is right."""
    from seed_hf.evaluation import models as evaluated

    save_numbered(tmp_path / "images", ["n1.jpg", "n2.jpg"])
    records = {
        name: {"imageId": name, "question": "What is it?", "answer": answer}
        for name, answer in (("n1", "red apple"), ("n2", "owl"))
    }
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps(records))
    monkeypatch.setattr(
        evaluated.SeedProcessor, "post_process_generation", lambda self, ids, **_: ["A red apple.", "cat\nowl"]
    )
    report = evaluate_vqa(models / "language_model", str(tmp_path), "testdev", num_beams=1)
    assert report.scores["exact_match"] == 50


def test_reconstruction(models, coco, tmp_path):
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        projection_dim=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(tmp_path / "clip")
    arguments = {"model": models / "pipeline", "dataset": str(coco), "clip": tmp_path / "clip"}
    arguments |= {"text_encoder": models / "bert", "num_inference_steps": 1}
    report = evaluate_reconstruction(**arguments, settings=RunSettings(limit=3))
    similarities = {"reconstruction", "caption_drawing", "reconstruction_to_caption_drawing"}
    distances = {"reconstruction_frechet_distance", "caption_drawing_frechet_distance"}
    assert set(report.scores) == similarities | distances and {"LPIPS", "FID"} <= set(report.not_measured)
    assert report.settings["drawing"]["num_inference_steps"] == 1
    assert all(-100 <= value <= 100 for value in report.scores.values())
    # noise belongs to the picture: other batches change rounding only
    again = evaluate_reconstruction(**arguments, settings=RunSettings(limit=3, batch_size=1))
    assert again.scores == pytest.approx(report.scores, abs=0.05)
    settings = RunSettings(limit=2)
    own = evaluate_reconstruction(models / "pipeline", str(coco), settings=settings, clip="own", num_inference_steps=1)
    assert (
        set(own.scores) == {"reconstruction", "reconstruction_frechet_distance"}
        and "cannot be compared" in own.not_measured["CLIP similarity"]
    )
    assert "caption_drawing" in own.not_measured


def test_upper_bound_from_own_features_of_captions(coco, tmp_path):
    """A decoder of one generation embedding, which is the image tokenizer's own feature of a caption."""
    save_pipeline(tmp_path / "pipeline", num_generation_tokens=1, projection_dim=32)
    settings = {"clip": "own", "text_encoder": "own", "settings": RunSettings(limit=3), "num_inference_steps": 1}
    report = evaluate_reconstruction(tmp_path / "pipeline", str(coco), **settings)
    assert {"caption_drawing", "reconstruction_to_caption_drawing"} <= set(report.scores)
    assert report.settings["text_encoder"] == report.models["text_encoder"]["id"] == "own"


def test_weights_are_known_again_however_they_are_stored(models, tmp_path):
    """Alone, among the parts of a pipeline, in shards, with code beside them; but not with another number in them."""
    from seed_hf import SeedImageTokenizer
    from seed_hf.provenance import describe_model

    folder = models / "pipeline" / "image_tokenizer"
    image_tokenizer = SeedImageTokenizer.from_pretrained(folder)
    wanted = describe_model("x", folder)["sha256"]
    image_tokenizer.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert describe_model("x", tmp_path / "sharded")["sha256"] == wanted
    inside = describe_model("x", models / "language_model")["sha256"]
    assert describe_model("x", models / "language_model", without="image_tokenizer.")["sha256"] != inside != wanted
    image_tokenizer.quantizer.embedding.weight.data[0, 0] += 1
    image_tokenizer.save_pretrained(tmp_path / "changed")
    assert describe_model("x", tmp_path / "changed")["sha256"] != wanted
    # what a conversion keeps beside the weights is none of them, and not every folder of that name is a cache's
    cached = tmp_path / "snapshots" / ("0123456789" * 4) / "part"
    shutil.copytree(folder, cached)
    assert describe_model("x", cached) == {**describe_model("x", folder), "revision": "0123456789" * 4}
    save_file({"a": torch.zeros(1)}, cached / "original_only.safetensors")
    assert describe_model("x", cached)["sha256"] == wanted
    for name in ("snapshots", "snapshots/mine"):
        shutil.copytree(folder, tmp_path / "other" / name, dirs_exist_ok=True)
        assert describe_model("x", tmp_path / "other" / name)["revision"] is None


def test_command_line(models, coco, tmp_path, capsys):
    output = tmp_path / "report.json"
    command = ["eval", "retrieval", str(models / "pipeline"), "--dataset", str(coco), "--output", str(output)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "codes_r_mean" in shown and "1 images could not be read" in shown
    assert json.loads(output.read_text())["task"] == "retrieval"
    assert main([*command, "--limit", "0"]) == 1
    assert "`--limit` is 0; allowed" in capsys.readouterr().err
    assert main([*command[:3], "--dataset", str(tmp_path), "--output", str(output)]) == 1
    assert "allowed: tar shards" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path)]) == 1
    assert "`--output` is the folder" in capsys.readouterr().err
    codes = tmp_path / "codes.parquet"
    Dataset.from_dict({"caption": ["a cat"], "codes": [[1]]}).to_parquet(codes)
    assert main([*command[:3], "--dataset", str(codes), "--split", "train", "--output", str(output)]) == 1
    assert "a column 'image' is needed" in capsys.readouterr().err


def test_what_cannot_be_scored_is_refused_before_anything_is_written(models, coco, tmp_path):
    with pytest.raises(ValueError, match=r"`metrics` has \['CIDER'\]"):
        evaluate_captions(tmp_path / "no model", str(coco), "test", metrics=["CIDER"])
    image = {"bytes": b"", "path": "1.png"}
    rows = [{"image": image, "question": "what?", "answers": answers} for answers in (["a"], ["a", "b"])]
    Dataset.from_list(rows).to_parquet(tmp_path / "val.parquet")
    with pytest.raises(ValueError, match=r"questions with \[1, 2\] answers; allowed: one for each"):
        evaluate_vqa(tmp_path / "no model", str(tmp_path / "{split}.parquet"), "val")


def test_an_image_that_half_precision_has_no_room_for_costs_no_other(tmp_path):
    """The first channel sums the pixels of a patch, which is infinity in float16 where an image is bright."""
    torch.manual_seed(0)
    image_tokenizer = save_pipeline(tmp_path / "pipeline")
    with torch.no_grad():
        patches = next(module for module in image_tokenizer.modules() if isinstance(module, torch.nn.Conv2d))
        patches.weight[0] = 1000.0
    image_tokenizer.save_pretrained(tmp_path / "pipeline" / "image_tokenizer")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    model.save_pretrained(tmp_path / "language_model")
    processor.save_pretrained(tmp_path / "language_model")
    (tmp_path / "images").mkdir()
    for number, value in enumerate((110, 255, 120)):
        Image.new("RGB", (32, 32), (value, value, value)).save(tmp_path / "images" / f"{number}.png")
    lines = ["file_name,caption", *(f"{number}.png,grey {number}" for number in range(3))]
    (tmp_path / "images" / "captions.csv").write_text("\n".join(lines))
    data = {"dataset": str(tmp_path / "images"), "split": "train", "dtype": "float16"}
    for report in (
        evaluate_retrieval(tmp_path / "pipeline", **data),
        evaluate_captions(tmp_path / "language_model", metrics=["BLEU-4"], num_beams=1, **data),
    ):
        assert report.data["num_skipped"] == 1
    with pytest.raises(TooManyUnreadableSamplesError, match=r"1 of 3 samples .*no codes: NaN or infinity"):
        evaluate_retrieval(tmp_path / "pipeline", settings=RunSettings(max_unreadable_share=0), **data)
