"""A user's network: the example of the documentation runs, and nothing is run that the user has not named."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, load, save
from core.checkpointing.metadata import CheckpointMetadata
from core.config import ModelConfig, TrainConfig
from core.errors import CheckpointError, ConfigError
from core.inference.forward_pass import forward_pass
from core.models import architecture, architectures, name_own_network, own_networks, size_divisor
from core.models.build import build_model
from core.models.contract import check_network, main
from core.models.own_source import code_files
from core.paths import project_root

LINEAR = """
import torch
class {name}(torch.nn.Module):
    def __init__(self, in_channels, classes):
        super().__init__()
        self.conv = torch.nn.Conv3d(in_channels, classes, 1)
    def forward(self, image):
        return {result}
"""


@pytest.fixture(autouse=True)
def empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without networks of their own."""
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "config"))
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, "")
    yield


def documented(folder: Path) -> Path:
    text = (project_root() / "docs" / "own_network.md").read_text("utf-8")
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    path = folder / "small_unet.py"
    path.write_text(match[1], "utf-8")
    return path


def written(folder: Path, name: str, result: str = "self.conv(image)", extra: str = "") -> str:
    path = folder / f"{name.lower()}.py"
    path.write_text(LINEAR.format(name=name, result=result).replace("    def __init__", f"{extra}    def __init__", 1))
    return f"{path}:{name}"


def listed(reference: str) -> str:
    """Name a network that has kept its contract; returns its name."""
    name = name_own_network(reference)
    own_networks.add_to_list(name)
    return name


def checkpoint_of(config: ModelConfig, folder: Path) -> Path:
    labels = [{"name": name, "raw": raw, "colour": "#000000"} for raw, name in enumerate(("background", "a", "b"))]
    metadata = CheckpointMetadata(TrainConfig(model=config).to_json(), labels, ("t1", "t2"), None)
    torch.manual_seed(0)
    save(folder / "own.safetensors", Checkpoint(metadata, build_model(config, 2, 3).state_dict()))
    return folder / "own.safetensors"


def test_example_of_the_documentation_keeps_the_contract(tmp_path: Path) -> None:
    name = name_own_network(f"{documented(tmp_path)}:SmallUNet")
    config = ModelConfig(name)
    check_network(config)
    assert size_divisor(config) == 2 and architecture(name).help == "Two resolutions, for a first try"
    assert build_model(config, 1, 4)(torch.randn(1, 1, 5, 8, 3)).shape == (1, 4, 5, 8, 3)


def test_named_network_is_known_by_its_name_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = documented(tmp_path)
    monkeypatch.chdir(tmp_path)
    listed("small_unet.py:SmallUNet")
    assert json.loads(own_networks.list_path().read_text()) == {"SmallUNet": str(path)}
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, "")  # a later process, that of the pages
    assert list(architectures())[-1] == "SmallUNet" and "vnet" in architectures()


def test_variable_comes_before_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(written(tmp_path, "Linear"))
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, written(other, "Linear"))
    assert architecture("Linear").path == str(other / "linear.py")


def test_checkpoint_holds_only_the_name_and_opens_where_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = written(tmp_path, "Linear")
    path = checkpoint_of(ModelConfig(listed(reference)), tmp_path)
    assert str(tmp_path).encode() not in path.read_bytes()
    assert load(path).metadata.train_config.model.model == "Linear"
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, "")
    own_networks.list_path().unlink()
    with pytest.raises(CheckpointError, match=r"own.safetensors: model: .*'Linear'.*--model path/to/file.py:ClassName"):
        load(path)
    monkeypatch.setenv(own_networks.NETWORKS_VARIABLE, reference)
    assert set(load(path).model) == {"network.conv.weight", "network.conv.bias"}


def test_path_in_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    reference = written(tmp_path, "Linear")
    name = name_own_network(reference)
    path = checkpoint_of(ModelConfig(name), tmp_path)
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(marker)!r}, 'w')\n" + (tmp_path / "linear.py").read_text())
    checkpoint = load(path)
    config = json.loads(json.dumps(checkpoint.metadata.config))
    config["model"]["model"] = f"{evil}:Linear"
    save(path, dataclasses.replace(checkpoint, metadata=dataclasses.replace(checkpoint.metadata, config=config)))
    with pytest.raises(CheckpointError, match=r"got the file .*evil.py.*only from files that you name yourself"):
        load(path)
    assert not marker.exists()


def test_finding_and_listing_run_no_code(tmp_path: Path) -> None:
    path = tmp_path / "network.py"
    path.write_text("raise SystemExit('ran')\nclass Net:\n    '''A net.'''\n    divisor: int = 4\n")
    entry = architecture(name_own_network(f"{path}:Net"))
    assert (entry.help, entry.divisor(ModelConfig("Net"))) == ("A net", 4)
    assert "Net" in architectures()


def test_damaged_list_is_named_where_it_is_needed_and_hides_nothing_else(tmp_path: Path) -> None:
    listed(written(tmp_path, "Linear"))
    own_networks.list_path().write_text("[")
    assert "vnet" in architectures()
    with pytest.raises(ConfigError, match=r"networks.json: expected a JSON object .*; remove it"):
        architecture("Linear")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.py:Net", "expected the Python file of Net"),
        ("network.py:Other", "expected a class Other, found vnet, Net"),
        ("network.py:vnet", "is that of a network of this program"),
        ("network.py:Base", r"defined in this very file.*imported from bases: name .*bases\.py:Base"),
        ("network.py:Module", r"defined in this very file.*imported from torch\.nn: name the file that defines it"),
        ("network.py:Alias", r"expected a class Alias.*defined in this very file, by a class statement"),
        ("broken.py:Net", "expected Python"),
        ("network.py:", "expected path/to/file.py:ClassName"),
        ("network.py:Net", r"Net.divisor: expected a whole number from 1 on, got 'two'"),
    ],
)
def test_reference_that_names_no_network_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bases.py").write_text("class Base: pass\n")
    imports = "from bases import Base\nfrom torch.nn import Module\n"
    (tmp_path / "network.py").write_text(f"{imports}class vnet: pass\nclass Net:\n    divisor = 'two'\nAlias = Net\n")
    (tmp_path / "broken.py").write_text("class Net(:\n")
    with pytest.raises(ConfigError, match=message):
        architecture(name_own_network(f"{tmp_path / text}"))


def test_name_of_another_file_is_refused_while_that_exists(tmp_path: Path) -> None:
    first = written(tmp_path, "Linear")
    listed(first)
    (tmp_path / "b").mkdir()
    second = written(tmp_path / "b", "Linear")
    with pytest.raises(ConfigError, match=r"the name Linear belongs to .*linear.py"):
        name_own_network(second)
    Path(first.rpartition(":")[0]).unlink()
    assert name_own_network(second) == "Linear" and architecture("Linear").path == second.rpartition(":")[0]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("self.conv(image)[:, :1]", r"expected logits of shape \(2, 2, 16, 16, 16\).*the second argument of its class"),
        ("self.conv(image)[..., ::2]", "divisor = n"),
        ("[self.conv(image)]", "got a list"),
        ("self.conv(image) / 0", "expected finite logits"),
        ("self.conv(image).detach()", "the logits have no gradient"),
        ("self.conv(image) + torch.rand(1)", "others in a second pass"),
        ("self.conv(image.mul_(2))", "changes the image in place"),
        (
            "self.conv(image.view(1, -1))",
            r"in training mode: .*wrong\.py, line 8: RuntimeError.*image of shape \(2, 1, 16, 16, 16\)",
        ),
    ],
)
def test_what_breaks_the_contract_is_named(tmp_path: Path, result: str, message: str) -> None:
    name = name_own_network(written(tmp_path, "Wrong", result))
    with pytest.raises(ConfigError, match=rf"Wrong breaks the contract of networks(.|\n)*{message}"):
        check_network(ModelConfig(name))


@pytest.mark.parametrize("result", ["self.conv(image)[..., 1:-1]", "[self.conv(image)]", "self.conv(image) * nan"])
def test_what_fails_with_every_image_is_said_once(tmp_path: Path, result: str) -> None:
    name = name_own_network(written(tmp_path, "Wrong", result.replace("nan", "float('nan')")))
    with pytest.raises(ConfigError) as raised:
        check_network(ModelConfig(name))
    lines = str(raised.value).splitlines()[1:]
    assert len(lines) == (2 if "nan" in result else 1), "logits, and of NaN the gradients too"
    assert all("(image of shape (2, 1, 16, 16, 16) and 3 more)" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("self.unused = torch.nn.Parameter(torch.zeros(3))", "got none for network.unused"),
        ("self.register_buffer('flag', torch.tensor(True))", "got network.flag"),
        ("self.scale = torch.zeros(3).sum().item()", 'under torch.device\\("meta"\\)'),
        ("self.conv.weight.data[:] = __import__('random').SystemRandom().random()", "different weights"),
        ("raise KeyError('x')", "cannot be built for 2 input channels and 3 classes: KeyError"),
    ],
)
def test_wrong_weights_are_named(tmp_path: Path, line: str, message: str) -> None:
    reference = written(tmp_path, "Wrong")
    path = Path(reference.rpartition(":")[0])
    path.write_text(path.read_text().replace("    def forward", f"        {line}\n    def forward"))
    with pytest.raises(ConfigError, match=message):
        check_network(ModelConfig(name_own_network(reference)))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            "divisor = 2 ** 2",
            "divisor: read 1 from the class, which has 4; write it into the class as a literal",
        ),
        ("options = ('channels',)", r"options: a torch.nn.Module of .* is not given any \(channels\)"),
    ],
)
def test_what_a_class_states_but_is_not_read_is_named(tmp_path: Path, stated: str, message: str) -> None:
    name = name_own_network(written(tmp_path, "Stated", extra=f"    {stated}\n"))
    with pytest.raises(ConfigError, match=message):
        check_network(ModelConfig(name))


def test_inherited_divisor_is_named(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "Base", extra="    divisor = 4\n").rpartition(":")[0])
    path.write_text(path.read_text() + "class Below(Base):\n    pass\n")
    with pytest.raises(ConfigError, match="divisor: read 1 from the class, which has 4"):
        check_network(ModelConfig(name_own_network(f"{path}:Below")))


def test_a_network_that_depends_on_the_order_of_memory_predicts_in_bf16(tmp_path: Path) -> None:
    norm = "torch.nn.functional.batch_norm(self.conv(image), None, None, training=True)"
    result = f"(lambda x: x.view(x.shape[0], -1).view(x.shape))({norm})"
    name = name_own_network(written(tmp_path, "View", result))
    network = build_model(ModelConfig(name), 1, 2).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = forward_pass(network, image, "bf16")
        torch.testing.assert_close(logits, network(image), rtol=0, atol=0)
    assert build_model(ModelConfig("unet3d"), 1, 2).any_memory_format and not network.any_memory_format


def helped(folder: Path, name: str, value: int, module: str, late: bool = False) -> str:
    """A network with a module beside it, in a file or a package, that states a value; ``late``: it is imported when the
    network runs."""
    folder.mkdir()
    if value % 2:
        (folder / f"{module}.py").write_text(f"VALUE = {value}\n")
    else:
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text(f"from {module}.inner import VALUE\n")
        (folder / module / "inner.py").write_text(f"VALUE = {value}\n")
    reference = written(folder, name, f"self.conv(image) * 0 + {module}.VALUE")
    path = Path(reference.rpartition(":")[0])
    text, line = path.read_text(), f"import {module}\n"
    path.write_text(text.replace("        return", f"        {line}        return") if late else line + text)
    return reference


def value_of(name: str) -> float:
    with torch.no_grad():
        return float(build_model(ModelConfig(name), 1, 2)(torch.zeros(1, 1, 2, 2, 2)).mean())


def test_modules_of_the_same_name_beside_two_networks_are_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / f"f{value}" for value in (1, 2, 3)]
    names = [
        name_own_network(helped(folder, f"Helped{value}", value, "helper_of_both"))
        for value, folder in enumerate(folders, 1)
    ]
    searched = set(sys.path)
    assert [value_of(name) for name in names] == [1, 2, 3]
    assert [value_of(name) for name in reversed(names)] == [3, 2, 1]
    assert set(sys.path) - searched == set(map(str, folders))


@pytest.mark.parametrize("late", [0, 1])
def test_modules_of_the_same_name_that_are_imported_later_are_refused(tmp_path: Path, late: int) -> None:
    module = f"helper_late_{late}"
    first, second = (
        name_own_network(helped(tmp_path / f"g{n}", f"Late{n}{late}", 4 + n, module, n == late)) for n in range(2)
    )
    assert value_of(first) == 4
    with pytest.raises(ConfigError, match=rf"modules of the same name, {module}, which one of them imports in a func"):
        build_model(ModelConfig(second), 1, 2)
    assert value_of(first) == 4


def test_modules_of_the_same_name_and_code_may_be_imported_later(tmp_path: Path) -> None:
    names = [name_own_network(helped(tmp_path / f"h{n}", f"Alike{n}", 7, "helper_alike", late=True)) for n in range(2)]
    assert [value_of(name) for name in names] == [7, 7]


def test_modules_on_the_search_path_are_found_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the user has put there stays, in its place, also where another network lies in it."""
    first = name_own_network(helped(tmp_path / "first", "InPath", 1, "helper_in_path"))
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    (tmp_path / "first" / "library_of_the_user.py").write_text("VALUE = 5\n")
    second = written(tmp_path, "Uses", "self.conv(image) * 0 + library_of_the_user.VALUE")
    path = Path(second.rpartition(":")[0])
    path.write_text(f"import library_of_the_user\n{path.read_text()}")
    assert value_of(first) == 1 and value_of(name_own_network(second)) == 5
    assert sys.path[0] == str(tmp_path / "first")


def test_check_as_a_command(tmp_path: Path) -> None:
    shown: list[str] = []
    assert main([written(tmp_path, "Linear")], shown.append) == 0
    assert main([written(tmp_path, "Wrong", "image")], shown.append) == 1
    assert shown[0] == "Linear: keeps the contract of networks\n" and "Wrong breaks the contract" in shown[1]
    assert set(json.loads(own_networks.list_path().read_text())) == {"Linear"}, "what breaks the contract is not listed"


@pytest.mark.slow
def test_segmentation_network_takes_its_options_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "wide.py"
    path.write_text(
        "from core.models.unet3d import UNet3D\n"
        "class Wide(UNet3D):\n"
        "    options = ('channels', 'widening')\n"
        "    channels = (4, 8)\n"
        "    divisor = 2\n"
    )
    config = ModelConfig(name_own_network(f"{path}:Wide"), norm="group", widening="after")
    network = build_model(config, 1, 2)
    assert network.config == ModelConfig("Wide", (4, 8), widening="after") and network.divisor == (2, 2, 2)
    check_network(config)


def test_entry_point_of_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "added_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    written(package, "Linear")
    monkeypatch.syspath_prepend(tmp_path)
    point = importlib.metadata.EntryPoint("Added", "added_package.linear:Linear", own_networks.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert architecture("Added").own and "Added" in architectures()  # without an import of the package
    (package / "blocks").mkdir()
    (package / "blocks" / "unit.py").write_text("")
    files = {path.relative_to(package).as_posix() for path in code_files(architecture("Added"))}
    assert files == {"__init__.py", "linear.py", "blocks/unit.py"}, "an estimate depends on all of the package"
    assert not code_files(architecture("unet3d"))
    (package / "__init__.py").write_text("")
    assert build_model(ModelConfig("Added"), 1, 2)(torch.zeros(1, 1, 3, 4, 5)).shape == (1, 2, 3, 4, 5)
