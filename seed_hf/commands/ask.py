"""`seed-hf ask`: a question about an image, answered by a language model."""

import argparse
import json
from pathlib import Path

from .caption import add_text_arguments, write_lines
from .images import Failures, encode_files
from .loading import announce


EXAMPLES = """examples:
  seed-hf ask photo.jpg "What kind of thing is this?"
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("path", type=Path, help="image file")
    parser.add_argument("question", help="question about it")
    add_text_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the answer."""
    from ..loading import load_language_model  # brings torch, for which `--help` must not wait

    failures = Failures()
    model, processor = load_language_model(*announce(args))
    question = processor.tokenizer.escape_control_tokens(args.question)
    prompt = processor.question_prompt.replace("{question}", question)
    for _, codes in encode_files([args.path], processor.encode_image, failures):
        (answer,) = write_lines(model, processor, codes, prompt, args)
        row = {"file": str(args.path), "question": args.question, "answer": answer}
        print(json.dumps(row, ensure_ascii=False) if args.json else answer)
    return failures.finish()


__all__ = ["add_arguments", "run"]
