"""An ensemble as one file: written, read back, refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from core.checkpointing.checkpoint import load, shared_metadata
from core.checkpointing.ensemble import check_ensemble, load_member, save_ensemble
from core.checkpointing.ensemble_metadata import Member, combine, is_ensemble, read_members
from core.checkpointing.file_header import copy_with_metadata, store_postprocessing
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.errors import CheckpointError, ConfigError
from core.imaging.postprocessing import ClassRule, Postprocessing
from core.labels import LabelSpace
from tests.support.checkpoint_files import same_bits
from tests.support.ensemble_members import two_members

RULES = Postprocessing({"GM": ClassRule(largest=True)})


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    return two_members(tmp_path)


def test_members_read_back_are_the_averages_that_were_written(members: list[Member], tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    metadata = save_ensemble(path, members)
    found = check_ensemble(path)
    assert [member.name for member in found] == ["one", "two"] and is_ensemble(metadata)
    for source, member in zip(members, found, strict=True):
        assert member.metadata == source.metadata
        assert same_bits(load_member(member).weights, load(source.path).average)
    assert read_metadata(path) == metadata
    # An ensemble of ensembles has the networks of both.
    again = save_ensemble(tmp_path / "again.safetensors", [*found])
    assert again.inference == metadata.inference
    assert (tmp_path / "again.safetensors").stat().st_size == path.stat().st_size


def test_a_network_that_is_in_an_ensemble_already_is_refused(members: list[Member], tmp_path: Path) -> None:
    """It would weigh double. An export of a run, in another file, is the same network."""
    trained = [
        replace(m, metadata=replace(m.metadata, progress={"epoch": 3, "elapsed_s": 1.5 + n}))
        for n, m in enumerate(members)
    ]
    save_ensemble(tmp_path / "both.safetensors", members)
    stored = read_members(tmp_path / "both.safetensors")
    inside = [replace(m, metadata=t.metadata) for m, t in zip(stored, trained, strict=True)]
    with pytest.raises(CheckpointError, match=r"got two twice \(.*both\.safetensors and .*best\.safetensors\)"):
        combine([*inside, trained[1]])
    assert combine([*inside, trained[1]], distinct=False).inference, "as in an ensemble of an earlier version"
    later = replace(trained[1], metadata=replace(trained[1].metadata, progress={"epoch": 9, "elapsed_s": 8.0}))
    assert combine([*inside, later]).progress["elapsed_s"] == 12.0, "another epoch is another network"


def test_held_out_are_subjects_that_no_member_was_trained_on(members: list[Member]) -> None:
    assert combine(members).split == {"train": ["a", "b", "c"], "val": ["d"], "test": ["e"]}
    chosen_by_e = replace(members[0], metadata=replace(members[0].metadata, split={"train": ["a"], "val": ["e"]}))
    assert combine([members[1], chosen_by_e]).split == {"train": ["b", "c", "a"], "val": ["d", "e"], "test": []}


def test_training_subjects_of_several_data_sets_are_known_by_folder(members: list[Member], tmp_path: Path) -> None:
    """The same id in the folders of two sites is two subjects."""
    folders = [tmp_path / "site-1", tmp_path / "site-2"]
    apart = [
        replace(m, metadata=replace(m.metadata, dataset={"path": str(folder)}, split={"train": ids}))
        for m, folder, ids in zip(members, folders, (["a", "b"], ["c"]), strict=True)
    ]
    whole = combine(apart)
    assert [whole.seen_in_training(folder, ["a", "b", "c", "d"]) for folder in folders] == [["a", "b"], ["c"]]
    assert not any(whole.is_training_data(folder) for folder in folders), "it is read as neither was"
    assert combine([apart[0], replace(apart[1], metadata=apart[0].metadata)]).is_training_data(folders[0])
    shared = shared_metadata(whole)
    assert str(tmp_path) not in json.dumps(asdict(shared))
    for folder in folders:
        assert shared.seen_in_training(folder, ["a", "c", "d"]) == []
        assert shared.may_be_seen_in_training(folder, ["a", "c", "d"]) == ["a", "c"]
    assert replace(whole, dataset={"trained_on": "everything"}).training_subjects == {}


def test_metadata_of_the_whole_are_true_of_all_members(members: list[Member]) -> None:
    whole = combine(members)
    assert whole.spacing_mm == (1.0, 1.0, 1.5), "each member resamples: no image has a wrong voxel size"
    assert whole.dataset["synthetic"] is True and whole.dataset["name"] == "Söhne & Co"
    unlike = {"median": [1, 1, 1], "min": [1, 1, 1], "max": [1, 1, 3]}
    plain = [
        replace(m, metadata=replace(m.metadata, spacing_mm=None, dataset={"name": m.name, "spacing_mm": spacing}))
        for m, spacing in zip(members, (unlike, {**unlike, "min": [0.5, 1, 1]}), strict=True)
    ]
    whole = combine(plain)
    assert whole.dataset["name"] == "one, two" and whole.training_spacing is not None
    assert (whole.training_spacing.min_mm, whole.training_spacing.max_mm) == ((0.5, 1, 1), (1, 1, 3))


def test_postprocessing_is_kept_where_all_members_have_it(members: list[Member]) -> None:
    treated = [replace(m, metadata=m.metadata.with_postprocessing(RULES)) for m in members]
    assert combine(treated).postprocessing == RULES
    assert not combine([treated[0], members[1]]).postprocessing


def changed(metadata: CheckpointMetadata, what: str) -> CheckpointMetadata:
    if what == "modalities":
        return replace(metadata, modalities=("T2", "T1"))
    raw = {0: "background", 10: "CSF", 150: "GM"} if what == "ignore" else {0: "background", 10: "CSF", 151: "GM"}
    space = LabelSpace.from_raw(raw)
    if what != "ignore":
        return replace(metadata, labels=space.to_json())
    labels = [*space.to_json(), {"name": "border", "colour": "#000000", "raw": 9, "ignore": True}]
    return replace(metadata, labels=labels)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("modalities", r"modalities of one \(T1, T2\) in all networks, got T2, T1 in two"),
        ("classes", r"classes of one \(.*GM = 150.*\) in all networks, got .*GM = 151.* in two"),
        ("ignore", r"ignore label of one \(none\) in all networks, got 9 in two"),
    ],
)
def test_networks_that_cannot_be_averaged_are_refused(members: list[Member], what: str, message: str) -> None:
    other = replace(members[1], metadata=changed(members[1].metadata, what))
    with pytest.raises(CheckpointError, match=message):
        combine([members[0], other])


def test_networks_that_differ_in_the_last_of_many_classes_are_refused(members: list[Member]) -> None:
    names = [f"structure {n}" for n in range(1, 12)]
    spaces = [
        LabelSpace.from_raw(dict(enumerate(["background", *order]))) for order in (names, [*names[:9], *names[:8:-1]])
    ]
    one, two = (
        replace(m, metadata=replace(m.metadata, labels=s.to_json())) for m, s in zip(members, spaces, strict=True)
    )
    with pytest.raises(
        CheckpointError, match=r"\.\.\., structure 10 = 10, structure 11 = 11.* got \.\.\., structure 11 = 10"
    ):
        combine([one, two])


def test_networks_that_mirror_differently_are_refused(members: list[Member]) -> None:
    def with_sides(member: Member, lateral: str) -> Member:
        values: dict[str, Any] = {"lateral": lateral, "classes": ("CSF", "GM")}
        values |= {"lateral_pairs": ("CSF", "GM")} if lateral == "swap" else {}
        config = member.metadata.train_config.with_values(values).to_json()
        return replace(member, metadata=replace(member.metadata, config=config))

    swapping, blind, unmirrored = (with_sides(members[0], lateral) for lateral in ("swap", "ignore", "off"))
    with pytest.raises(CheckpointError, match="exchanges CSF and GM in mirrored images, two no classes"):
        combine([swapping, replace(blind, name="two", path=members[1].path)])
    assert combine([swapping, replace(unmirrored, path=members[1].path)])


def test_one_network_or_one_network_twice_is_refused(members: list[Member]) -> None:
    with pytest.raises(CheckpointError, match="expected 2 to 100 networks, got 1"):
        combine(members[:1])
    with pytest.raises(CheckpointError, match="got one twice"):
        combine([*members, members[0]])


def test_no_file_is_left_where_a_member_is_damaged(members: list[Member], tmp_path: Path) -> None:
    content = bytearray(members[1].path.read_bytes())
    content[-3] ^= 1
    members[1].path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"two.best\.safetensors is damaged"):
        save_ensemble(tmp_path / "both.safetensors", members)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_damaged_ensemble_is_refused(members: list[Member], tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    save_ensemble(path, members)
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(CheckpointError, match="is damaged: its tensors"):
        check_ensemble(path)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["member/7/x"] = header.pop(next(name for name in header if name.startswith("member/1")))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[start:])
    with pytest.raises(CheckpointError, match="expected tensors of 2 members, found member/7/x"):
        check_ensemble(path)
    with pytest.raises(CheckpointError, match=r"expected the tensors of its member/1, but .* do not match"):
        load_member(read_members(path)[1])


def test_ensemble_is_no_checkpoint_to_train_from(members: list[Member], tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    save_ensemble(path, members)
    with pytest.raises(CheckpointError, match="expected one network, found an ensemble of several"):
        load(path)


@pytest.mark.parametrize("ensemble", [False, True])
def test_stored_postprocessing_leaves_the_tensors_as_they_are(
    members: list[Member], tmp_path: Path, ensemble: bool
) -> None:
    path = members[0].path
    if ensemble:
        path = tmp_path / "both.safetensors"
        save_ensemble(path, members)
    before = read_metadata(path)
    weights = [load_member(member).weights for member in check_ensemble(path)]
    store_postprocessing(path, RULES, {"by": "hand"})
    after = read_metadata(path)
    assert after.postprocessing == RULES and after.inference["postprocessing"]["decision"] == {"by": "hand"}
    assert not before.postprocessing and after.with_postprocessing(Postprocessing()) == before
    found = [load_member(member).weights for member in check_ensemble(path)]
    assert all(same_bits(a, b) for a, b in zip(weights, found, strict=True))
    store_postprocessing(path, Postprocessing(), {})
    assert read_metadata(path) == before
    with pytest.raises(ConfigError, match="got 'WM'"):
        store_postprocessing(path, Postprocessing({"WM": ClassRule(largest=True)}), {})


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        ({"members": 3}, "members is not a list"),
        ({"postprocessing": 5}, "expected a rule per class name, got 5"),
        ({"postprocessing": {"rules": {"GM": 5}}}, "expected largest, minimum_ml and fill_holes"),
        ({"postprocessing": {"rules": {"WM": {"largest": True}}}}, "expected classes out of"),
    ],
)
def test_malformed_metadata_are_refused(members: list[Member], inference: dict[str, Any], message: str) -> None:
    path = members[0].path
    text = json.dumps({**asdict(members[0].metadata), "inference": inference})
    copy_with_metadata(path, path, {"segmentarium": text})
    with pytest.raises(CheckpointError, match=message):
        read_metadata(path)
