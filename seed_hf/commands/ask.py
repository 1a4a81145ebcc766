"""`seed-hf ask`: a question about an image, answered by a language model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .caption import check_num_codes, write_lines
from .flags import LANGUAGE_MODEL, AsJson, Device, MaxNewTokens, NumCodes, announce, model_flag
from .images import Failures, encode_files


EXAMPLES = """examples:
  seed-hf ask photo.jpg "What kind of thing is this?"
"""


def run(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Image file.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question about it.")],
    as_json: AsJson = False,
    max_new_tokens: MaxNewTokens = 20,
    num_codes: NumCodes = None,
    model: Annotated[str, model_flag(LANGUAGE_MODEL)] = "seed-mini",
    device: Device = None,
) -> int:
    """Prints the answer."""
    from ..loading import load_language_model  # brings torch, for which `--help` must not wait

    if not question.strip():
        raise ValueError("`question` is empty; allowed: some words.")
    failures = Failures()
    language_model, processor = load_language_model(*announce(model, device))
    num_codes = check_num_codes(num_codes, processor.tokenizer.num_query_tokens)
    prompt = processor.fill_prompt(processor.question_prompt, question=question)
    for _, codes in encode_files([path], processor.encode_image, failures):
        (answer,) = write_lines(language_model, processor, codes[:, :num_codes], prompt, max_new_tokens)
        row = {"file": str(path), "question": question, "answer": answer}
        print(json.dumps(row, ensure_ascii=False) if as_json else answer)
    return failures.finish()


__all__ = ["run"]
