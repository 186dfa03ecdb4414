"""engines.toml: strict about names, kinds, settings and their types."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError
from core.runs.engines.registry import get_engine, list_engines
from core.runs.engines.settings import FILE, SlurmSettings, read_settings


def test_root_without_the_file_has_this_machine_alone(tmp_path: Path) -> None:
    assert [engine.name for engine in list_engines(tmp_path)] == ["local"]
    assert get_engine(tmp_path, "").title == "this machine"


def test_settings_are_read_and_read_again_when_they_change(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('[a-1]\nkind = "slurm"\ntime = "2-00:00:00"\npoll_s = 5\nextra = ["--qos=long"]\n')
    (kind, settings) = read_settings(tmp_path)["a-1"]
    assert kind == "slurm" and settings == SlurmSettings(time="2-00:00:00", poll_s=5.0, extra=("--qos=long",))
    assert [engine.title for engine in list_engines(tmp_path)] == ["this machine", "a-1 (Slurm)"]
    (tmp_path / FILE).write_text('[b]\nkind = "slurm"\n')
    assert list(read_settings(tmp_path)) == ["b"]
    with pytest.raises(ConfigError, match=r"expected one of local, b, .*engines.toml declares; got 'a-1'"):
        get_engine(tmp_path, "a-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nkind = ", "expected a TOML file"),
        ('[a]\nkind = "sge"', r"\[a\]: kind: expected one of .*slurm.*, got 'sge'"),
        ("[a]", "got None"),
        ('[A b]\nkind = "slurm"', "expected a TOML file|lower-case"),
        ('["A b"]\nkind = "slurm"', "expected a name of lower-case letters"),
        ('[local]\nkind = "slurm"', "other than 'local'"),
        ("a = 1", "expected a table"),
        ('[a]\nkind = "slurm"\npartitoin = "x"', r"\[a\]: expected settings .*partition.*; got 'partitoin'"),
        ('[a]\nkind = "slurm"\nnodes = "2"', r"nodes: expected a whole number of 1 or more, got '2'"),
        ('[a]\nkind = "slurm"\nnodes = true', "nodes: expected a whole number of 1 or more, got True"),
        ('[a]\nkind = "slurm"\nextra = "--x"', "extra: expected a list of texts, got '--x'"),
        ('[a]\nkind = "slurm"\nextra = [1]', "extra: expected text, got 1"),
        ('[a]\nkind = "slurm"\ntime = 12:00:00', "time: expected text"),
        ('[a]\nkind = "slurm"\ntimeout_s = nan', r"timeout_s: expected a number of 0.1 or more \(s\), got nan"),
        ('[a]\nkind = "slurm"\nnodes = 0', r"\[a\]: nodes: expected a number of 1 or more, got 0"),
        ('[a]\nkind = "slurm"\ntime = "a day"', "time: expected a time limit such as"),
        ('[a]\nkind = "slurm"\npoll_s = 0', r"poll_s: expected a number from 2 to 30 \(s\), got 0"),
        ('[a]\nkind = "slurm"\npoll_s = 60', r"poll_s: expected a number from 2 to 30 \(s\), got 60"),
        ('[a]\nkind = "slurm"\nsignal_s = 1', r"signal_s: expected a number of 10 or more \(s\), got 1"),
        (
            '[a]\nkind = "ray"',
            r"\[a\]: address: expected the address of its dashboard such as http://head:8265, got ''",
        ),
        ('[a]\nkind = "ray"\naddress = "head:8265"', "address: expected the address of its dashboard"),
        ('[a]\nkind = "ray"\naddress = "http://"', "address: expected the address of its dashboard"),
        ('[a]\nkind = "ray"\naddress = "http://h"\ngpus = 1.5', "gpus: expected a whole number or a part of one GPU"),
        ('[a]\nkind = "ray"\naddress = "http://h"\nresources = ["GPU=1"]', "resources: expected NAME=AMOUNT"),
        ('[a]\nkind = "ray"\naddress = "http://h"\nresources = ["disk"]', "resources: .* got 'disk'"),
        ('[a]\nkind = "ray"\naddress = "http://h"\ntime = "1:00"', "time: expected more than the 120 s of signal_s"),
        ('[a]\nkind = "slurm"\nport = 80', "port: expected a number from 1024 to 65535, got 80"),
    ],
)
def test_mistake_is_refused_with_engine_and_setting(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(tmp_path)
    assert FILE in str(caught.value)
