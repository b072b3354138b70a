"""Run the recipes of the README as they are printed, on small data of known classes."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from worlds import bags_of_one_class, bags_of_several_classes

from wsl_tutorial.data import digits
from wsl_tutorial.estimators import CountClassifier

README = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
RECIPES = re.findall(r"```python\n(.*?)```", README.partition("## Your own bags")[2], re.S)


def recipe(word, **given):
    """Run the recipe that contains a word, and return its names."""
    (code,) = (code for code in RECIPES if word in code)
    exec(code, given)
    return given


def test_recipes_have_at_most_ten_lines():
    assert len(RECIPES) == 7
    assert all(len([line for line in code.splitlines() if line]) <= 10 for code in RECIPES)


def test_the_recipe_for_a_table_scores_bags(tmp_path, monkeypatch, capsys):
    x, bags, y, hidden = bags_of_one_class(40)
    frame = pd.DataFrame(x, columns=list("abc")).assign(bag=bags, label=y)
    monkeypatch.chdir(tmp_path)
    frame.to_csv("bags.csv", index=False)
    names = recipe("bags.csv")
    assert float(capsys.readouterr().out) > 0.9
    assert recipe("GridSearchCV", **names)["search"].best_score_ > 0.95
    positive = frame.groupby("bag")["label"].first() == 1
    held_out = recipe("held_out", **names)["held_out"].loc[positive.index]
    assert ((held_out > 0.5) == positive).mean() > 0.9
    names = recipe("responsible", **names)
    assert ((names["chance"] > 0.5) == positive).mean() > 0.9
    assert sorted(names["responsible"].index) == sorted(positive.index[positive])
    assert hidden[names["responsible"]].mean() > 0.9


def test_the_recipe_for_counts_finds_who_voted_what(tmp_path, monkeypatch):
    x, bags, hidden = bags_of_several_classes(60, 2)
    people = pd.DataFrame(x, columns=["age", "income"]).assign(district=bags)
    votes = pd.crosstab(people["district"], np.array(["red", "green", "blue"])[hidden])
    monkeypatch.chdir(tmp_path)
    people.to_csv("people.csv", index=False)
    votes.sample(frac=1, random_state=0).to_csv("votes.csv")
    names = recipe("votes.csv")
    truth = np.array(["red", "green", "blue"])[hidden]
    assert (names["model"].predict(names["people"]) == truth).mean() > 0.9
    assert np.allclose(names["given"].groupby(bags).sum(), votes[names["given"].columns])


def test_the_recipe_for_shares_of_a_population_predicts_other_districts(capsys):
    x, bags, hidden = bags_of_several_classes(60, 2)
    people = pd.DataFrame(x, columns=["age", "income"]).assign(district=bags)
    shares = pd.crosstab(people["district"], hidden, normalize="index").round(3)
    assert (shares.sum(axis=1) != 1).any()
    people, new = people[bags < 40], people[bags >= 40]
    old = {"people": people, "shares": shares.loc[:39]}
    names = recipe(
        "newcomers",
        CountClassifier=CountClassifier,
        **old,
        newcomers=new,
        their_shares=shares.loc[40:],
    )
    assert float(capsys.readouterr().out) > 0.9
    assert np.abs(names["expected"] - shares.loc[40:]).to_numpy().mean() < 0.1


def test_the_recipe_for_images_trains_a_network():
    drawn = digits.canvases(*digits.load(), 128, 24, torch.Generator().manual_seed(0), k=(0, 2))
    truth = drawn["labels"].numpy()
    labels = [set(np.flatnonzero(row).tolist()) for row in truth]
    names = recipe("models.reader", images=drawn["images"].numpy(), labels=labels)
    assert names["occurs"].shape == (128, 10)
    assert names["where"].shape == (128, 11, 6, 6)
    assert np.allclose(names["where"].sum(1), 1, atol=1e-5)
    assert (names["occurs"] != truth).mean() < truth.mean() / 2  # 1 is predicting nothing
