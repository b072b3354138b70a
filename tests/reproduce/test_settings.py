"""Settings in groups: one name each, replaced by it; the groups do not enter a record's id."""

import dataclasses
from dataclasses import dataclass

import pytest

from wsl_tutorial.reproduce import papers
from wsl_tutorial.reproduce.experiment import (
    changed,
    plain,
    record_id,
    setting,
    settings_of,
    sourced,
)


@dataclass(frozen=True)
class Optimiser:
    lr: float = setting(0.1, 0.1, "section 4")
    every: int = setting(1, 1, "code", before=1)


@dataclass(frozen=True)
class Grouped:
    width: int = setting(8, 8, "table 1")
    optimiser: Optimiser = Optimiser()


@dataclass(frozen=True)
class Flat:
    width: int = setting(8, 8, "table 1")
    lr: float = setting(0.1, 0.1, "section 4")


@dataclass(frozen=True)
class Twins(Grouped):
    lr: float = setting(0.2, 0.1, "section 5")


def test_groups_leave_no_trace_in_an_id():
    assert plain(Grouped()) == plain(Flat()) == {"width": 8, "lr": 0.1}
    assert record_id("a/b", 0, "paper", plain(Grouped())) == record_id(
        "a/b", 0, "paper", plain(Flat())
    )


def test_a_setting_is_replaced_by_its_name_alone():
    config = changed(Grouped(), lr=0.3, width=4)
    assert config == Grouped(4, Optimiser(0.3))
    assert settings_of(config) == {"width": 4, "lr": 0.3, "every": 1}
    assert plain(changed(config, every=2)) == {"width": 4, "lr": 0.3, "every": 2}
    with pytest.raises(TypeError, match="no setting momentum"):
        changed(config, momentum=0.9)


def test_two_settings_with_one_name_are_refused():
    with pytest.raises(ValueError, match="two settings 'lr'"):
        settings_of(Twins())


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.key)
def test_every_setting_of_a_paper_has_a_name_of_its_own(paper):
    for experiment in paper.experiments:
        assert settings_of(experiment.config)
        assert dataclasses.is_dataclass(experiment.config)


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.key)
def test_an_id_is_the_hash_of_the_settings_under_its_protocol(paper):
    for e in paper.experiments:
        for protocol in ("paper", *e.protocols):
            config = plain(e.settings(protocol))
            assert e.record_id(3, protocol) == record_id(e.name, 3, protocol, config)
        with pytest.raises(ValueError, match="has no 'none', only paper"):
            e.record_id(0, "none")


def test_a_setting_comes_with_its_source_and_nothing_else():
    lines = sourced(Grouped())
    assert lines == [
        ("width", 8, 8, "table 1"),
        ("lr", 0.1, 0.1, "section 4"),
        ("every", 1, 1, "code"),  # without the value that stands for older records
    ]
