"""Publishing: what is taken from a run folder, and why the rest is not."""

from dataclasses import replace
from pathlib import Path

import pytest
import test_tables
from test_tables import NESTS, Settings, experiment, record

from wsl_tutorial.reproduce import records
from wsl_tutorial.reproduce.__main__ import main
from wsl_tutorial.reproduce.experiment import record_id

NARROW = experiment("narrow", protocols={"short": {"epochs": 2}, "smoke": {"epochs": 1}})
PAPER = test_tables.PAPER
PAPER = replace(PAPER, experiments=(*PAPER.experiments, NARROW))


@pytest.fixture(autouse=True)
def fake_paper(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("WSL_PAPERS", Path(__file__).stem)


def test_publish_says_why_a_record_is_not_taken_and_takes_the_others(tmp_path, capsys):
    source, target = tmp_path / "runs", tmp_path / "package"
    old = replace(NESTS, config=Settings(epochs=21))
    gone = replace(NESTS, name="mcmil/gone")
    wider = replace(NARROW, protocols={**NARROW.protocols, "desk": {}})
    held = [
        record(NESTS, 0, error=0.36),
        record(NESTS, 1, "smoke", error=0.1),
        record(old, 2, error=0.1),
        record(gone, 3, error=0.1),
        record(wider, 4, "desk", error=0.1),
        record(NESTS, 5, error=0.1, dirty=True),
        record(NESTS, 6, error=0.2),
        record(NESTS, 7, error=0.3),
        *(
            held
            | {"id": record_id(*(held[k] for k in ("experiment", "seed", "protocol", "config")))}
            for held in (
                record(NESTS, 8) | {"config": {"epochs": 20, "gone": None}},
                record(NESTS, 9) | {"config": {"epochs": 20.0}},
            )
        ),
    ]
    for one in held:
        records.append(source / "records.jsonl", one) if source.exists() else source.mkdir()
    records.append(source / "records.jsonl", held[0])
    records.append(source / "other.jsonl", held[6])
    target.mkdir()
    (target / "mcmil.jsonl").write_bytes(
        b"of a later version\n"
        + records.encode(held[6])
        + records.encode({**held[7], "notes": ["x"]})
    )
    words = ["publish", str(source), "--to", str(target)]
    assert main(words) == 2
    said = capsys.readouterr().err
    for i, why in {
        1: "the protocol smoke is no evidence",
        2: f"the config of {NESTS.name} is another now (epochs)",
        3: "there is no experiment mcmil/gone",
        4: "has no protocol desk now",
        5: "their code is in no commit",
        6: "they are published already",
        7: "other runs with the same settings are published already",
        8: "is another now (gone)",
        9: "is another now (epochs)",
    }.items():
        line = next(line for line in said.splitlines() if held[i]["id"] in line)
        assert line.startswith("reproduce: not taken, as ")
        assert why in line
    assert "1 from uncommitted or unknown code, 1 others published; commit" in said
    assert [r["seed"] for r in records.parse(target / "mcmil.jsonl")[0]] == [6, 7, 0]
    assert (target / "mcmil.jsonl").read_bytes().startswith(b"of a later version\n")
    assert main([*words, "--allow-dirty"]) == 0
    assert "new records: 1" in capsys.readouterr().out


def test_publish_to_what_is_no_folder_is_one_sentence(tmp_path, capsys):
    records.append(tmp_path / "records.jsonl", record(NESTS, 0, error=0.36))
    (tmp_path / "file").touch()
    assert main(["publish", str(tmp_path), "--to", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert "file" in said
    assert said.count("\n") == 1
