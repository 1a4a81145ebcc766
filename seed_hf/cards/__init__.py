"""Writes cards of repositories from configuration, training log and evaluation reports, and from nothing else."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from ..hub.files import is_hub_id
from ..hub.kinds import KINDS, RepositoryKind, repository_kind
from ..licences import Licence, choose_licence
from .codes import REPORT_FILE, read_report
from .emissions import estimate_emissions
from .facts import find_facts, find_runs
from .origins import find_origins
from .results import Run, eval_results, model_index, read_runs, table_rows


TEMPLATES = Path(__file__).with_name("templates")


def write_card(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    licence: str | None = None,
    licence_name: str | None = None,
    licence_link: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    languages: Sequence[str] = ("en",),
    training: Sequence[str | os.PathLike] = (),
    evaluations: Sequence[str | os.PathLike] = (),
    dataset_ids: Mapping[str, str] | None = None,
    power_watts: float | None = None,
    carbon_intensity: float | None = None,
    notes: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    report: str | os.PathLike | None = None,
) -> ModelCard | DatasetCard:
    r"""
    Writes the card of a repository, and `evaluation/` and `.eval_results/` where there are results.

    No argument takes a score: every score comes from an evaluation report that states the hash of the weights in
    `folder`, and the report is put beside the card.

    Args:
        folder (`str` or `os.PathLike`): Folder of any kind that [`repository_kind`] knows. Its `README.md` is
            replaced, unless `output` is given.
        repo_id (`str`): Name on the Hub that the repository is going to have, as `owner/name`.
        licence (`str`, *optional*): The Hub's identifier of the licence. It is needed for weights without a known
            origin; otherwise (see [`find_origins`]) the origin decides, and another licence is refused.
        licence_name (`str`, *optional*): Name of the licence, with `licence="other"`.
        licence_link (`str`, *optional*): Address of the licence, with `licence="other"`.
        base_model (`str`, *optional*): Id of the base model on the Hub; by default what an adapter or the training
            log names.
        datasets (`Sequence[str]`): Ids on the Hub of the training data.
        languages (`Sequence[str]`): ISO 639 codes of the languages of the text.
        training (`Sequence[str | os.PathLike]`): Output folders of the training runs, in order; by default `folder`,
            if it is one.
        evaluations (`Sequence[str | os.PathLike]`): Files that `seed-hf eval --output` wrote.
        dataset_ids (`Mapping[str, str]`, *optional*): Ids on the Hub of evaluation data, by the name in the reports.
        power_watts (`float`, *optional*): Watts that training drew, for the estimate of emissions; by default
            estimated from the name of the machine in the log.
        carbon_intensity (`float`, *optional*): Carbon intensity of the electricity, in grams of CO2 equivalent per
            kWh; by default the world's average.
        notes (`str` or `os.PathLike`, *optional*): Markdown file with further sections. Percentages and decimal
            fractions are refused in it, since results come from `evaluations` only.
        output (`str` or `os.PathLike`, *optional*): Folder to write to, made if missing; by default `folder`.
        report (`str` or `os.PathLike`, *optional*): JSON file that `seed-hf report` wrote about these weights.

    Returns:
        `ModelCard` or `DatasetCard`: The saved card; `card.validate()` asks the Hub about its metadata.

    Raises:
        ValueError: `folder` is no repository, an id cannot be one (such as a local path as `base_model`), the licence
            is missing or not allowed by the origin of the weights, a report is not of these weights, or `notes` has
            results.
    """
    folder = Path(folder)
    name = repository_kind(folder)
    if name is None:
        raise ValueError(f"`folder` is {str(folder)!r}; allowed: a model, an adapter, a pipeline, or codes.")
    if not training and (folder / "training_arguments.json").is_file():
        training = [folder]
    kind, facts, runs = KINDS[name], find_facts(name, folder), read_runs(evaluations, folder)
    origins, starts_from = find_origins(folder, *training)
    chosen = choose_licence(origins, licence, licence_name, licence_link)
    base_models = [base_model or facts["base_model"]] if base_model or "base_model" in facts else starts_from
    _check_ids({"repo_id": [repo_id], "base_model": base_models, "datasets": datasets})
    trained = find_runs(training)
    emissions = estimate_emissions(trained, power_watts, carbon_intensity)
    files = eval_results(runs, dataset_ids or {})
    extra = _read_notes(notes) if notes is not None else None
    codes = read_report(report, folder) if report is not None else None
    common = {"language": list(languages), "license": chosen.id}
    common |= {"license_name": chosen.name, "license_link": chosen.link}
    if kind.is_data:
        metadata = _codes_data(kind, facts, common)
    else:
        common |= {"datasets": list(datasets) or None, "co2_eq_emissions": emissions["metadata"]}
        metadata = _model_data(kind, repo_id, base_models, runs, common)
    card = (DatasetCard if kind.is_data else ModelCard).from_template(
        metadata,
        template_str=_read_template(name),
        title=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        facts=facts | {"starts_from": starts_from},
        training=trained,
        emissions=emissions,
        results=table_rows(runs),
        runs=runs,
        not_measured={name: why for run in runs for name, why in run.report.not_measured.items()},
        is_data=kind.is_data,
        notes=extra,
        codes=codes,
        licence=chosen,
    )
    reports = {run.file: path for run, path in zip(runs, evaluations, strict=True)}
    reports |= {REPORT_FILE: report} if codes else {}
    _save(Path(output or folder), card, reports, files)
    return card


def _read_template(kind: str) -> str:
    """The template of a kind of repository, with the metadata before and the parts that all kinds share behind it."""
    parts = [(TEMPLATES / f"{stem}.md").read_text(encoding="utf-8") for stem in (kind.replace("-", "_"), "shared")]
    return "---\n{{ card_data }}\n---\n\n" + "\n".join(parts)


def _read_notes(path: str | os.PathLike) -> str:
    """The text of the notes, which must not bring results."""
    text = Path(path).read_text(encoding="utf-8").strip()
    words = re.sub(r"\]\([^)]*\)|arXiv[: ]\d+\.\d+", "", text)
    if numbers := re.findall(r"\d[\d.,]*\s?%|(?<![\w.-])\d+\.\d+", words):
        raise ValueError(f"`notes` {str(path)!r} has {numbers}; allowed: no results, which come from `evaluations`.")
    return text


def _check_ids(ids: Mapping[str, Sequence[str | None]]) -> None:
    """Refuses local paths, as the Hub does, but before anything is sent."""
    for name, values in ids.items():
        if bad := [value for value in values if not value or not is_hub_id(value)]:
            raise ValueError(f"`{name}` is {bad}; allowed: ids of repositories on the Hub, as owner/name.")


def _model_data(
    kind: RepositoryKind, repo_id: str, base_models: list[str], runs: list[Run], common: dict
) -> ModelCardData:
    return ModelCardData(
        library_name=kind.library,
        pipeline_tag=kind.task,
        tags=list(kind.tags),
        base_model=base_models[0] if len(base_models) == 1 else base_models or None,
        base_model_relation=kind.base_model_relation if base_models else None,
        model_name=repo_id.rpartition("/")[2],
        eval_results=model_index(runs) or None,
        **common,
    )


def _codes_data(kind: RepositoryKind, facts: dict, common: dict) -> DatasetCardData:
    files = [{"split": split["name"], "path": f"data/{split['name']}-*.parquet"} for split in facts["splits"]]
    num_images = sum(split["num_images"] for split in facts["splits"])
    sizes = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))
    size = next((name for name, limit in sizes if num_images < limit), "10M<n<100M")
    return DatasetCardData(
        task_categories=["image-to-text", "text-to-image"],
        tags=list(kind.tags),
        size_categories=[size],
        configs=[{"config_name": "default", "data_files": files}],
        **common,
    )


def _save(folder: Path, card, reports: Mapping[str, str | os.PathLike], files: Mapping[str, list]) -> None:
    """Writes card, reports and `.eval_results/`, in place of the `.eval_results/` of an earlier card."""
    contents = {name: Path(path).read_bytes() for name, path in reports.items()}
    contents |= {name: yaml.safe_dump(entries, sort_keys=False).encode() for name, entries in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / ".eval_results", ignore_errors=True)
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    card.save(folder / "README.md")


__all__ = ["Licence", "write_card"]
