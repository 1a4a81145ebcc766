"""The image-span grammar in other languages, on fixed right and wrong strings, by the libraries that servers use."""

import json
import re

import llguidance
import pytest
from llguidance import hf
from tiny.language import build_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from seed_hf.commands import main
from seed_hf.convert.grammar import number_expressions, span_gbnf, span_lark, span_regex
from seed_hf.mini import mini_language_model_path
from seed_hf.models.image_tokens_seed import ImageTokenLayout


SPAN = "<img><img_00000><img_00005><img_00010><img_00015></img>"
RIGHT = {
    "image": [SPAN],
    "interleaved": ["", "a red cat", SPAN, f"a{SPAN}b{SPAN}{SPAN}", "1 < 2 <i>x</i> <im", f"<<im{SPAN}</", "a\nb"],
}
WRONG = {
    "image": [
        "", "a", f"a{SPAN}", SPAN + SPAN, SPAN[:-6], SPAN[5:], SPAN.replace("<img_00005>", ""),
        SPAN.replace("00015", "00016"), SPAN.replace("<img_00005>", "<img_5>"), SPAN.replace("<img_00000>", SPAN),
    ],
    "interleaved": ["<img>", "</img>", "<image>", "<img_00003>", f"a{SPAN[:-6]}b", f"{SPAN}</img>", f"<<image>{SPAN}"],
}  # fmt: skip
WRONG_PLACE = SPAN.replace("<img_00005>", "<img_00001>")
CASES = [(mode, per_query) for mode in RIGHT for per_query in (False, True)]
every_case = pytest.mark.parametrize("mode, per_query", CASES)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def layout_of(tokenizer, per_query):
    """In `SPAN` each code is of its place's part; in `WRONG_PLACE` the second is not."""
    values = vars(tokenizer.image_token_layout) | {"codebook_per_query": per_query}
    return ImageTokenLayout(**values)


def cases_of(mode, per_query):
    wrong = [*WRONG[mode], *([WRONG_PLACE] if per_query else [])]
    return [(text, True) for text in RIGHT[mode]] + [(text, False) for text in wrong]


@every_case
def test_regular_expression(tokenizer, mode, per_query):
    expression = re.compile(span_regex(layout_of(tokenizer, per_query), mode))
    for text, is_right in cases_of(mode, per_query):
        assert bool(expression.fullmatch(text)) == is_right, text


@every_case
def test_by_xgrammar(tokenizer, mode, per_query):
    # its requirements bring a compiler for GPUs of many MB; the Makefile installs it without
    xgrammar = pytest.importorskip("xgrammar", reason="pip install --no-deps xgrammar; pip install apache-tvm-ffi")
    grammar = xgrammar.Grammar.from_ebnf(span_gbnf(layout_of(tokenizer, per_query), mode))
    compiled = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([b"a"])).compile_grammar(grammar)
    for text, is_right in cases_of(mode, per_query):
        matcher = xgrammar.GrammarMatcher(compiled, terminate_without_stop_token=True)
        is_accepted = (not text or matcher.accept_string(text)) and matcher.is_completed()
        assert is_accepted == is_right, text


@pytest.mark.parametrize("form", ["regex", "lark"])
@every_case
def test_by_llguidance(tokenizer, mode, per_query, form):
    """The expression sees an image token as the text it is written as, here by a tokenizer without such tokens."""
    layout = layout_of(tokenizer, per_query)
    if form == "regex":
        reader = without_image_tokens(tokenizer)
        grammar = llguidance.LLMatcher.grammar_from_regex(span_regex(layout, mode))
    else:
        reader = tokenizer
        grammar = llguidance.LLMatcher.grammar_from_lark(span_lark(layout, mode))
    guide = hf.from_tokenizer(reader)
    for text, is_right in cases_of(mode, per_query):
        ids = reader(text, add_special_tokens=False)["input_ids"]
        matcher = llguidance.LLMatcher(guide, grammar)
        assert not matcher.is_error(), matcher.get_error()
        taken = matcher.try_consume_tokens(ids)
        assert (taken == len(ids) and matcher.is_accepting()) == is_right, (text, taken, len(ids))


def without_image_tokens(tokenizer):
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if "img" not in token["content"]]
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["content"] != "<image>"]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="<|endoftext|>")


@pytest.mark.parametrize("bounds", [(0, 8192), (0, 10), (128, 256), (99, 101), (7, 8), (0, 100000), (12345, 54321)])
def test_ranges_of_numbers(bounds):
    expression = re.compile("|".join(number_expressions(*bounds)))
    edges = {*range(0, 300), *(bound + step for bound in bounds for step in range(-12, 12)), 5000, 9999, 99999}
    for number in edges:
        if 0 <= number < 100000:
            assert bool(expression.fullmatch(f"{number:05d}")) == (bounds[0] <= number < bounds[1]), number


def test_numbers_of_more_digits():
    """A codebook may have up to 2**20 codes, which five digits do not write."""
    for start, end in ((0, 131072), (99990, 2**20), (100000, 100001)):
        expression = re.compile("|".join(number_expressions(start, end)))
        for number in (0, 7, 9999, 99989, 99990, 99999, 100000, 100001, 131071, 131072, 999999, 2**20 - 1, 2**20):
            assert bool(expression.fullmatch(f"{number:05d}")) == (start <= number < end), number


def test_unknown_mode(tokenizer):
    for write in (span_regex, span_gbnf, span_lark):
        with pytest.raises(ValueError, match="`mode` is 'picture'; allowed"):
            write(tokenizer.image_token_layout, "picture")


def test_beside_an_exported_model(tmp_path):
    assert main(["export-lm", mini_language_model_path(), str(tmp_path / "plain"), "--grammar"]) == 0
    written = sorted(path.name for path in (tmp_path / "plain" / "grammar").iterdir())
    assert written == sorted(f"{mode}.{form}" for mode in RIGHT for form in ("gbnf", "regex", "lark"))
    expression = (tmp_path / "plain" / "grammar" / "image.regex").read_text()
    codes = "".join(f"<img_{number * 128:05d}>" for number in range(32))
    assert re.fullmatch(expression, f"<img>{codes}</img>")
    # seed-mini's codebook has a part for each place
    assert not re.fullmatch(expression, f"<img>{codes}</img>".replace("<img_00128>", "<img_00000>"))
