"""The layers: imports point downward only, the web process stays free of torch, training needs only torch and numpy.

Every import statement counts for the layers, also one inside a function. Imports at module level are
executed in a child process in which the forbidden packages cannot be imported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from docs.import_graph import ROOT, first_party, folder_graph, folder_of, imports_of, levels, sources

# A folder imports folders of a lower rank only, and itself. A new folder needs a line here.
RANKS = {
    "core": 0,  # the vocabulary: errors, types, labels, configuration, events
    "core.compute": 1,
    "core.imaging": 1,
    "core.models": 2,
    "core.losses": 3,
    "core.sweeps": 4,
    "core.datasets.layouts": 2,
    "core.datasets.synthetic": 3,
    "core.datasets": 4,
    "core.sampling": 2,
    "core.checkpointing": 3,
    "core.augmentation": 3,
    "core.inference": 5,
    "core.runs.store": 4,
    "core.runs.reporting": 5,
    "core.study": 5,
    "core.evaluation": 6,
    "core.inspection": 8,
    "core.runs.engines": 6,
    "core.runs": 7,
    "core.training": 7,
    "core.bench": 8,
    "core.runs.processes": 8,
    "core.cli": 9,
    "ui.shared": 10,
    "ui.viewer": 11,
    "ui.server": 12,
    "ui.data.uploader": 11,
    "ui.data": 12,
    "ui.learn": 12,
    "ui.predict": 12,
    "ui.quiz.answer_bar": 11,
    "ui.quiz": 12,
    "ui.review.case_list": 11,
    "ui.review": 12,
    "ui.runs.bell": 11,
    "ui.runs.chart": 11,
    "ui.runs.runs_table": 11,
    "ui.runs": 12,
    "ui.train": 12,
    "ui.home": 13,  # shows parts of other pages
    "ui": 14,  # the shell around every page
    "pages": 14,
}
NOT_FOR_THE_WEB = ("core.cli", "core.bench", "core.runs.processes")  # what neither ui nor pages import

TORCH_AND_NUMPY_ONLY = (
    "core.compute", "core.models", "core.losses", "core.sampling", "core.augmentation", "core.checkpointing",
    "core.bench", "core.training", "core.inference.sliding_window", "core.evaluation.metrics",
    "core.evaluation.confusion_counts",
)  # fmt: skip
READS_FILES = (
    "core.training.experiment",
    "core.training.recorded_data",
    "core.training.run_data",
    "core.training.run_metadata",
)  # need nibabel at import
TORCH_AT_WORK = (
    "core.runs.processes.worker", "core.cli.predict", "core.cli.evaluate", "core.cli.ensemble",
    "core.cli.postprocess", "core.cli.export", "core.cli.features",
    "core.cli.places", "core.cli.bench", "core.cli.maps", "core.runs.map_maker",
    "core.runs.epoch_segmenter",
)  # fmt: skip
WITHOUT_TORCH = (
    "core.errors", "core.types", "core.labels", "core.events", "core.config", "core.presets", "core.paths",
    "core.imaging", "core.datasets", "core.evaluation.metrics", "core.training.plan",
    "core.training.auto_preset", "core.training.auto_network", "core.compute.expected_device",
    "core.checkpointing.metadata", "core.inspection.intensity_histograms", "core.study", "core.sweeps", "core.runs",
    "core.cli",
)  # fmt: skip

# A child process that imports modules one by one while some packages are out of reach, and reports what went wrong.
CHILD = """
import importlib, importlib.abc, importlib.metadata, json, sys
modules, allowed, blocked = json.loads(sys.argv[1])

def needs_of(distribution, seen):
    if distribution not in seen:
        seen.add(distribution)
        try:
            lines = importlib.metadata.requires(distribution) or []
        except importlib.metadata.PackageNotFoundError:
            return seen
        for line in lines:
            if "extra ==" not in line:
                name = line.split(";")[0].split("[")[0].strip()
                needs_of("".join(c if c.isalnum() or c in "-_." else " " for c in name).split()[0].lower(), seen)
    return seen

if allowed:
    wanted = {d.replace("_", "-") for a in allowed for d in needs_of(a, set())}
    provided = importlib.metadata.packages_distributions()
    reachable = {p for p, ds in provided.items() if any(d.lower().replace("_", "-") in wanted for d in ds)}
    reachable |= set(sys.stdlib_module_names) | {"core", "torchgen", "functorch"}

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in blocked or (allowed and top not in reachable):
            raise ModuleNotFoundError(f"{name} is out of reach in this test", name=name)

sys.meta_path.insert(0, Wall())
failures = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failures[module] = str(error)
print(json.dumps(failures))
"""


def top(name: str) -> str:
    """The first part of a dotted name."""
    return name.partition(".")[0]


def under(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module is one of these, or is in one of these packages."""
    return any(module == name or module.startswith(name + ".") for name in names)


def in_child(modules: list[str], allowed: tuple[str, ...] = (), blocked: tuple[str, ...] = ()) -> dict[str, str]:
    """Import modules in a fresh interpreter; returns ``{module: package that it could not import}``."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([modules, allowed, blocked])],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_every_folder_has_a_rank() -> None:
    folders = {folder_of(m, p) for m, p in sources("pages", "ui", "core").items()}
    assert folders == RANKS.keys(), "a line per folder of RANKS"


@pytest.mark.slow
def test_folders_import_folders_of_lower_rank_only() -> None:
    wrong = [
        line
        for ours, imported in folder_graph().items()
        for theirs, lines in imported.items()
        for line in lines
        if RANKS[theirs] >= RANKS[ours]
    ]
    assert not wrong, wrong


@pytest.mark.slow
def test_the_folder_graph_has_no_cycle() -> None:
    assert max(levels(folder_graph()).values()) > 5
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        levels({"a": {"b": {}}, "b": {"a": {}}, "c": {}})


@pytest.mark.slow
def test_core_imports_neither_ui_nor_pages_nor_streamlit() -> None:
    forbidden = {"ui", "pages", "app", "streamlit"}
    wrong = [f"{m} imports {n}" for m, p in sources("core").items() for n in imports_of(p, m) if top(n) in forbidden]
    assert not wrong, wrong


def test_pages_and_ui_import_neither_the_command_line_nor_processes_nor_benchmarks() -> None:
    wrong = [
        f"{m} imports {n}"
        for m, p in sources("pages", "ui").items()
        for n in imports_of(p, m)
        if under(n, NOT_FOR_THE_WEB)
    ]
    assert not wrong, wrong


def test_engines_are_known_by_their_interface_alone() -> None:
    """What an engine can do is asked of it; only its folder knows of which kind it is, and the settings of a kind."""
    kinds = tuple(f"core.runs.engines.{name}" for name in ("ray", "ray_api", "ray_reasons", "settings", "slurm"))
    outside = {m: p for m, p in sources("pages", "ui", "core").items() if not under(m, ("core.runs.engines",))}
    wrong = [f"{m} imports {n}" for m, p in outside.items() for n in imports_of(p, m) if under(n, kinds)]
    wrong += [f"{m} names a kind" for m, p in outside.items() if re.search(r"""["'](slurm|ray)["']""", p.read_text())]
    assert not wrong, wrong


def test_no_page_imports_a_page() -> None:
    wrong = [f"{m} imports {n}" for m, p in sources("pages").items() for n in imports_of(p, m) if top(n) == "pages"]
    assert not wrong, wrong


@pytest.mark.slow
def test_modules_have_no_circular_imports() -> None:
    modules = sources("pages", "ui", "core")
    left = {m: first_party(p, m, modules) for m, p in modules.items()}
    while free := [m for m, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other: {left}"


@pytest.mark.slow
def test_training_imports_only_torch_and_numpy() -> None:
    modules = [m for m in sources("core") if ".".join(m.split(".")[:2]) in TORCH_AND_NUMPY_ONLY]
    assert {"core.training.trainer", "core.models.unet3d", "core.checkpointing.checkpoint"} <= set(modules)
    assert in_child([*modules, "core.cli", "core.cli.bench"], allowed=("torch", "numpy")) == {}


@pytest.mark.slow
def test_child_process_cannot_import_blocked_modules() -> None:
    failures = in_child(["numpy", "scipy", "torch"], allowed=("numpy",))
    assert failures.keys() == {"scipy", "torch"}
    assert in_child(["numpy", "torch"], blocked=("torch",)).keys() == {"torch"}


@pytest.mark.slow
def test_imports_of_the_web_process_work_without_torch() -> None:
    modules = [m for m in sources("core") if under(m, WITHOUT_TORCH) and m not in TORCH_AT_WORK]
    assert in_child([*modules, *sources("ui")], blocked=("torch",)) == {}


@pytest.mark.slow
def test_no_page_imports_torch() -> None:
    """Follows every import from app.py, ui and pages, also those inside functions."""
    modules = {**sources("pages", "ui", "core"), "app": ROOT / "app.py"}
    seen: dict[str, str] = {}
    waiting = [(m, m) for m in modules if m.partition(".")[0] != "core"]
    while waiting:
        module, way = waiting.pop()
        if module not in seen:
            seen[module] = way
            parents = {module.rpartition(".")[0]} & modules.keys()
            needs = first_party(modules[module], module, modules, for_types=False) | parents
            waiting += [(name, f"{way} -> {name}") for name in needs]
    wrong = [
        way for m, way in seen.items() if any(n.partition(".")[0] == "torch" for n in imports_of(modules[m], m, False))
    ]
    assert not wrong, wrong
