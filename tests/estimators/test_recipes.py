"""Run the recipes of the README as they are printed, on small data of known classes."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from worlds import bags_of_one_class, bags_of_several_classes

from wsl_tutorial.data import digits
from wsl_tutorial.estimators import BagKFold, CountClassifier, PresenceClassifier

ROOT = Path(__file__).parents[2]
README = ROOT.joinpath("README.md").read_text("utf-8").partition("## Your own bags")[2]
PAGE = ROOT.joinpath("book", "recipes.md").read_text("utf-8")
SHORT, LONG = (re.findall(r"```python\n(.*?)```", text, re.S) for text in (README, PAGE))
DONE = set()
ESTIMATORS = {"PresenceClassifier": PresenceClassifier, "BagKFold": BagKFold}


def recipe(word, **given):
    """Run the recipe that contains a word, and return its names."""
    (code,) = (code for code in SHORT + LONG if word in code)
    DONE.add(code)
    exec(code, given)
    return given


def test_recipes_of_the_readme_have_at_most_ten_lines():
    assert len(SHORT) == 4
    assert all(len([line for line in code.splitlines() if line]) <= 10 for code in SHORT)


def test_the_recipe_for_a_table_scores_bags(tmp_path, monkeypatch, capsys):
    x, bags, y, hidden = bags_of_one_class(40)
    frame = pd.DataFrame(x, columns=list("abc")).assign(bag=bags, label=y)
    monkeypatch.chdir(tmp_path)
    frame.to_csv("bags.csv", index=False)
    names = recipe("print(cross_val_score(model, X, y, cv=BagKFold(10")
    assert float(capsys.readouterr().out) > 0.9
    positive = frame.groupby("bag")["label"].first() == 1
    names = recipe("model.posterior(X, y)", **names)
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
    names = recipe("people.csv")
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
    with pytest.warns(ConvergenceWarning, match="max_iter=40 epochs"):
        names = recipe("models.reader", images=drawn["images"].numpy(), labels=labels)
    assert names["occurs"].shape == (128, 10)
    assert names["where"].shape == (128, 11, 6, 6)
    assert np.allclose(names["where"].sum(1), 1, atol=1e-5)
    assert (names["occurs"] != truth).mean() < truth.mean() / 2  # 1 is predicting nothing


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a table with words and gaps, written to bags.csv, and the class of each row."""
    monkeypatch.chdir(tmp_path)
    x, bags, y, hidden = bags_of_one_class(60)
    frame = pd.DataFrame(x, columns=list("abc")).assign(bag=bags, label=y)
    frame["kind"] = np.where(hidden == 1, "odd", "even")
    frame.loc[::7, "b"] = np.nan
    frame.loc[::5, "kind"] = np.nan
    frame.to_csv("bags.csv", index=False)
    return frame, hidden


def test_recipes_for_pipelines_score_choose_and_predict_bags(table, capsys):
    frame, hidden = table
    names = recipe("SimpleImputer")
    assert float(capsys.readouterr().out) > 0.9
    names = recipe("GridSearchCV", **names)
    positive = frame.groupby("bag")["label"].first() == 1
    assert ((names["chance"] > 0.5) == positive).mean() > 0.9
    found = [row for row, _ in names["responsible"]]
    assert names["responsible"].index.tolist() == positive.index[positive].tolist()
    assert hidden[found].mean() > 0.9
    held_out = recipe("held_out", **names)["held_out"]
    assert ((held_out.loc[positive.index] > 0.5) == positive).mean() > 0.85
    frame.groupby("bag")["label"].first().sample(frac=1, random_state=0).to_csv("labels.csv")
    y = recipe("labels.csv", **names)["y"]
    assert np.array_equal(y, frame["label"])
    new = names["X"].index.get_level_values("bag") >= 40
    fitted = names["best"].fit(names["X"][~new], y[~new])
    with warnings.catch_warnings(action="error"):
        importance = permutation_importance(fitted, names["X"][new], y[new], random_state=0)
    assert importance.importances_mean.argmax() in (0, 3)  # a and kind


def test_recipes_for_labels_say_what_is_positive_and_unknown(table):
    frame, _ = table
    X, y = frame[["a", "b", "c", "bag"]].fillna(0), frame["label"]
    names = recipe("control", X=X, y=y.map({0: "control", 1: "case"}), **ESTIMATORS)
    plain = PresenceClassifier(bags="bag").fit(X, y)
    assert np.array_equal(names["chance"], plain.predict_bags_proba(X)[1])
    three = X[X["bag"].isin([17, 18, 19])]
    three = three.assign(bag=three["bag"].map({17: "a", 18: "b", 19: "c"}))
    model = recipe("horse", X=three, **ESTIMATORS)["model"]
    assert model.classes_.tolist() == ["cat", "dog", "horse"]


def test_recipes_for_files_save_and_load(table):
    frame, _ = table
    files = [f"part{k}.csv" for k in range(3)]
    for k, name in enumerate(files):
        frame[frame["bag"] // 20 == k].drop(columns="kind").fillna(0).to_csv(name, index=False)
    model = recipe("partial_fit", files=files, pd=pd, **ESTIMATORS)["model"]
    X, y = frame.drop(columns=["label", "kind"]).fillna(0), frame["label"]
    assert model.score(X, y) > 0.9
    again = recipe("joblib", model=model)["again"]
    assert again.score(X, y) == model.score(X, y)


def test_the_recipe_for_a_training_loop_learns():
    x, bags, hidden = bags_of_several_classes(200, 2)
    x, bags = torch.tensor(x, dtype=torch.float32), torch.tensor(bags)
    hidden = torch.tensor(hidden)
    samples = [
        (x[bags == b], torch.stack([(hidden[bags == b] == c).any() for c in range(2)]))
        for b in range(200)
    ]
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 3)
    given = {"network": network, "optimizer": torch.optim.Adam(network.parameters(), 0.05)}
    for _ in range(10):
        recipe("DataLoader", samples=samples, **given)
    assert (network(x).argmax(1) == hidden).float().mean() > 0.9


def test_every_recipe_has_run():
    assert set(SHORT + LONG) == DONE
