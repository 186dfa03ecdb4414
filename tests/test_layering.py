"""The layers: imports point downward only, the web process stays free of torch, training needs torch and numpy alone.

Every import statement counts for the layers, also one inside a function. What must not be loaded *at import* is tried
for real in a child process in which the forbidden packages cannot be imported.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.paths import project_root

ROOT = project_root()
LAYERS = ("pages", "ui", "core")

# Inside core, from what describes things to what runs them. A module may import its own rank and those below it, in no
# circle. A new module in core needs a line here.
RANKS = {
    "core": 0, "core.errors": 0, "core.fields": 0, "core.types": 0, "core.labels": 0, "core.strict_json": 0,
    "core.paths": 0,
    "core.events": 1, "core.config": 1, "core.imaging.geometry": 1, "core.imaging.bounded_io": 1, "core.compute.device": 1,
    "core.compute.threads": 1, "core.compute.allocator": 1,
    "core.presets": 2, "core.imaging.display": 2, "core.checkpointing.metadata": 2, "core.study.questions": 2, "core.imaging.headers": 2, "core.imaging.normalise": 2,
    "core.imaging.resample": 2, "core.training.muon": 2, "core.augmentation.batched": 2, "core.augmentation.intensity": 2, "core.augmentation.warp": 2,
    "core.imaging.volume": 3, "core.models": 3, "core.training.losses": 3, "core.evaluation.metrics": 3, "core.sampling.patches": 3, "core.augmentation.augmenter": 3,
    "core.checkpointing.checkpoint": 3, "core.evaluation.confusion_counts": 3, "core.training.optim": 3, "core.training.plan": 3, "core.training.schedule": 3, "core.inspection.intensity_histograms": 3,
    "core.training.early_stopping": 3, "core.compute.distributed": 3,
    "core.datasets": 4, "core.inference.sliding_window": 4, "core.training.validation_budget": 4, "core.training.validation_scores": 4, "core.sampling.streaming": 4,
    "core.training.validator": 4, "core.training.batches": 4, "core.training.step": 4, "core.checkpointing.async_writer": 4, "core.training.acceleration": 4,
    "core.compute.determinism": 1, "core.training.trainer": 4, "core.inspection.patch_statistics": 4, "core.checkpointing.foreign_weights": 4,
    "core.datasets.single_case": 5, "core.datasets.prepare": 5, "core.inference.predictor": 5, "core.evaluation.evaluate": 5, "core.training.experiment": 5, "core.inspection.feature_maps": 5,
    "core.bench": 5,
    "core.runs": 6,
    "core.cli": 7, "core.__main__": 7,
}  # fmt: skip

TORCH_AND_NUMPY_ONLY = (
    "core.training.trainer", "core.models", "core.training.losses", "core.evaluation.metrics", "core.evaluation.confusion_counts", "core.sampling.patches", "core.augmentation.augmenter",
    "core.training.plan", "core.training.validation_budget", "core.checkpointing.checkpoint", "core.checkpointing.foreign_weights", "core.bench",
)  # fmt: skip
TORCH_AT_WORK = (
    "core.runs.processes.worker", "core.cli.predict", "core.cli.evaluate", "core.cli.export", "core.cli.features",
    "core.cli.places", "core.cli.bench",
)  # fmt: skip
WITHOUT_TORCH = (
    "core.errors", "core.types", "core.labels", "core.events", "core.config", "core.presets", "core.checkpointing.metadata",
    "core.imaging.volume", "core.evaluation.metrics", "core.imaging.normalise", "core.imaging.resample", "core.training.plan", "core.inspection.intensity_histograms", "core.study.questions",
    "core.datasets", "core.datasets.single_case", "core.runs", "core.cli",
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


def sources(*layers: str) -> dict[str, Path]:
    """Every module of these layers by its dotted name."""
    found = {}
    for layer in layers:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, module: str, for_types: bool = True) -> Iterator[str]:
    """The dotted names that a file imports anywhere; ``from a import b`` gives ``a.b``.

    ``for_types``: those under ``if TYPE_CHECKING:`` too, which never happen while the program runs.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"), str(path))
    never = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in never and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def first_party(path: Path, module: str, known: dict[str, Path], for_types: bool = True) -> set[str]:
    """The project's own modules that a file imports, a parent package's ``__init__`` not counted."""
    found = set()
    for name in imports_of(path, module, for_types):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name and name != module:
            found.add(name)
    return found


def rank(module: str) -> int | None:
    """The rank of the longest named prefix: all of ``core.models`` ranks alike."""
    top = ".".join(module.split(".")[:2])
    return RANKS.get(top)


def in_child(modules: list[str], allowed: tuple[str, ...] = (), blocked: tuple[str, ...] = ()) -> dict[str, str]:
    """Import modules in a fresh interpreter; returns ``{module: what it could not import}``."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([modules, allowed, blocked])],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_downward_only(layer: str) -> None:
    allowed = LAYERS[LAYERS.index(layer) + (layer == "pages") :]  # a page does not import another page
    above = {*LAYERS, "app"} - set(allowed)
    modules = sources(layer)
    assert modules, f"{layer}/ has no modules"
    wrong = [
        f"{module} imports {name}"
        for module, path in modules.items()
        for name in imports_of(path, module)
        if name.partition(".")[0] in above
    ]
    assert not wrong, wrong


def test_core_never_imports_streamlit() -> None:
    wrong = [m for m, p in sources("core").items() for n in imports_of(p, m) if n.partition(".")[0] == "streamlit"]
    assert not wrong, wrong


def test_every_core_module_has_a_rank() -> None:
    assert not [m for m in sources("core") if rank(m) is None], "give the new module a rank in RANKS"


def test_core_imports_downward_only() -> None:
    modules = sources("core")
    wrong = [
        f"{module} (rank {rank(module)}) imports {name} (rank {rank(name)})"
        for module, path in modules.items()
        for name in first_party(path, module, modules)
        if (rank(name) or 0) > (rank(module) or 0)
    ]
    assert not wrong, wrong


def test_core_imports_in_no_circle() -> None:
    modules = sources("core")
    left = {m: first_party(p, m, modules) for m, p in modules.items()}
    while free := [m for m, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"these import each other: {left}"


def test_training_imports_torch_and_numpy_alone() -> None:
    modules = [m for m in sources("core") if ".".join(m.split(".")[:2]) in TORCH_AND_NUMPY_ONLY]
    assert {"core.training.trainer", "core.models.unet3d", "core.checkpointing.checkpoint"} <= set(modules)
    assert in_child(modules, allowed=("torch", "numpy")) == {}


def test_the_wall_of_these_tests_holds() -> None:
    failures = in_child(["numpy", "scipy", "torch"], allowed=("numpy",))
    assert failures.keys() == {"scipy", "torch"}
    assert in_child(["numpy", "torch"], blocked=("torch",)).keys() == {"torch"}


def test_what_the_web_process_imports_works_without_torch() -> None:
    modules = [
        m
        for m in sources("core")
        if any(m == top or m.startswith(top + ".") for top in WITHOUT_TORCH) and m not in TORCH_AT_WORK
    ]
    assert in_child([*modules, *sources("ui")], blocked=("torch",)) == {}


def test_no_page_reaches_torch() -> None:
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
