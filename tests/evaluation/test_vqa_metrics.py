"""The official VQA normalisation and accuracy, on cases worked out from the official script."""

import pytest

from seed_hf.evaluation import exact_match, normalize_answer, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"),
        ("the two dogs", "2 dogs"),
        ("none", "0"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("red, blue", "red blue"),
        ("red,blue", "red blue"),
        ("1,000 a/b", "1000 ab"),  # such a number deletes every mark, where there would be a space
        ("3.5", "3.5"),
        ("3. 5", "3 5"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("couldn'tve", "couldn't've"),
        ("hed've", "he'd've"),
        ("somebody'd", "somebodyd"),  # the official table has it the wrong way round
        ("she's", "she's"),
        ("t-shirt", "t shirt"),
        ("a", ""),
        (" new\nline ", "new line"),
        *((f"red{end}car{end}", "red car") for end in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00\x1b\x7f"),
        ("red,\u2028blue", "red blue"),  # a mark beside a space is dropped, not replaced
    ],
)
def test_normalisation(answer, expected):
    assert normalize_answer(answer) == expected


def test_accuracy_leaves_each_annotator_out():
    # four of ten say "2": the others count 4 (-> 1), each of the four 3 (-> 1)
    assert vqa_accuracy(["two"], [["2"] * 4 + ["3"] * 6]) == [1.0]
    # three of ten: seven see 3 of 3, three see 2 of 3
    assert vqa_accuracy(["2"], [["2"] * 3 + ["3"] * 7]) == pytest.approx([(7 * 1 + 3 * 2 / 3) / 10])
    assert vqa_accuracy(["2"], [["2"] + ["3"] * 9]) == pytest.approx([9 / 3 / 10])
    assert vqa_accuracy(["4"], [["2"] + ["3"] * 9]) == [0.0]


def test_answers_that_all_agree_are_compared_as_they_are():
    assert vqa_accuracy(["two", "2"], [["2"] * 10, ["2"] * 10]) == [0.0, 1.0]


@pytest.mark.parametrize("end", ["\r\n", "\x0c", "\x85", "\u2028", "\x00"])
def test_line_ends_are_spaces_where_all_agree_too(end):
    spaces = " " * len(end)
    assert vqa_accuracy([f"red{end}car{end}"], [[f"red{spaces}car"] * 10]) == [1.0]
    assert vqa_accuracy([f"red{spaces}car"], [[f"{end}red{end}car"] * 10]) == [1.0]


def test_exact_match_is_normalised():
    assert exact_match(["The dog!", "cat"], ["dog", "dog"]) == [1.0, 0.0]


def test_wrong_input():
    with pytest.raises(ValueError, match="`predictions` has 1 entries; allowed: 2"):
        exact_match(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="two or more annotators"):
        vqa_accuracy(["a"], [["a"]])
