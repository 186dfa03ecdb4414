"""The pattern language: what matches, what the entities are, and what is no pattern."""

from __future__ import annotations

import pytest

from core.datasets.layouts.patterns import LANGUAGE, SPECIAL, compile_pattern, escape, language_table
from core.errors import DatasetError


@pytest.mark.parametrize(
    ("pattern", "path", "entities"),
    [
        ("{case}/{case}_{modality}.nii.gz", "p_1/p_1_t1.nii.gz", {"case": "p_1", "modality": "t1"}),
        ("{case}/{case}_{modality}.nii.gz", "p_1/p_2_t1.nii.gz", None),
        ("{case}_{modality}.nii", "a_b_t1.nii", {"case": "a_b", "modality": "t1"}),
        ("{modality}_{case}.nii", "t1_a_b.nii", {"case": "a_b", "modality": "t1"}),
        ("{case}_{channel=####}.nii", "a_0001_0000.nii", {"case": "a_0001", "channel": "0000"}),
        ("{case}_{channel=####}.nii", "a_001.nii", None),
        ("{case=s#+}.nii[.gz]", "s12.nii", {"case": "s12"}),
        ("{case=s#+}.nii[.gz]", "s12.nii.gz", {"case": "s12"}),
        ("{case=s#+}.nii[.gz]", "s.nii", None),
        ("{modality=t1|t1ce}/{case}.nii", "t1ce/x.nii", {"modality": "t1ce", "case": "x"}),
        ("sub-{case}[/ses-{session}]/sub-{case}[_ses-{session}]_T1w.nii", "sub-1/sub-1_T1w.nii", {"case": "1"}),
        (
            "sub-{case}[/ses-{session}]/sub-{case}[_ses-{session}]_T1w.nii",
            "sub-1/ses-b/sub-1_ses-b_T1w.nii",
            {"case": "1", "session": "b"},
        ),
        ("sub-{case}/ses-{session}/sub-{case}_ses-{session}.nii", "sub-1/ses-b/sub-1_ses-a.nii", None),
        ("(HGG|LGG)/{case}.nii", "lgg/a.nii", {"case": "a"}),
        ("**/{case}.nii", "a.nii", {"case": "a"}),
        ("**/{case}.nii", "x/y/a.nii", {"case": "a"}),
        ("*/{case}.nii", "x/y/a.nii", None),
        ("{site=A|B/*}/{case}.nii", "B/c/a.nii", {"site": "B/c", "case": "a"}),
        ("images/{case}", "images/a.b.nii.gz", {"case": "a.b"}),
        ("images/{case}", "images/a.txt", None),
        ("{case}.T1.nii", "aXT1.nii", None),
        ("a\\[1\\]/{case}.nii", "a[1]/x.nii", {"case": "x"}),
        ("{CASE}".lower() + ".NII", "x.nii", {"case": "x"}),
    ],
)
def test_pattern_matches_whole_paths(pattern: str, path: str, entities: dict[str, str] | None) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.match(path) == entities
    if entities is not None:
        assert compiled.depths[0] <= path.count("/") <= compiled.depths[1]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "1 to 1000 characters"),
        ("/data/{case}.nii", "inside the folder"),
        ("a/../{case}.nii", "inside the folder"),
        ("{case.nii", "expected an entity like"),
        ("{Case}.nii", "expected an entity like"),
        ("case}.nii", "closes nothing"),
        ("[a.nii", "expected a closing ]"),
        ("(a|b.nii", r"expected a closing \)"),
        ("a].nii", "closes nothing"),
        ("a|b.nii", r"stands between \( and \)"),
        ("({case}|b).nii", r"stands inside \( \)"),
        ("{case=a|}.nii", "empty alternative"),
        ("{case}/{case=a}.nii", "give them at the first"),
        ("{case=[a]}.nii", "no meaning among the alternatives"),
        ("{case}.nii\\", r"after the last \\"),
        ("x" * 2000, "1 to 1000 characters"),
    ],
)
def test_what_is_no_pattern_is_refused_with_its_reason(pattern: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        compile_pattern(pattern)


@pytest.mark.parametrize("text", ["a{b}.nii", "x(1)[2]*?#|\\y.nii", "плохо .nii"])
def test_an_escaped_text_matches_only_itself(text: str) -> None:
    assert compile_pattern(escape(text)).match(text) == {}
    assert compile_pattern(escape(text)).match(text + "x") is None


def test_table_of_the_language_holds_every_special_character_in_texts_that_compile() -> None:
    texts = [text for texts, _ in LANGUAGE for text in texts]
    assert set(SPECIAL) <= set("".join(texts))
    for text in texts:
        compile_pattern(f"{text}a")
    lines = language_table().splitlines()
    assert "| `\\` | takes the next character as it is |" in lines
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
