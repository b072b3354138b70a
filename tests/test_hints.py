"""Every hint of every exercise can show: its wrong answer is no other hint's, and not right."""

import pytest
from test_check import CASES as BASE

from wsl_tutorial import check


@pytest.mark.parametrize(
    ("ask", "answer"), [case[:2] for case in BASE], ids=lambda x: getattr(x, "__name__", "")
)
def test_every_hint_of_a_check_can_show(ask, answer, monkeypatch):
    judge, judged = check._judge, []

    def kept(name, answer, right, mistakes, praise):
        judged.append((name, right, mistakes, praise))
        judge(name, answer, right, mistakes, praise)

    monkeypatch.setattr(check, "_judge", kept)
    ask(answer)
    for name, right, mistakes, praise in judged:
        for hint, wrong in mistakes.items():
            with pytest.raises(check.CheckFailed) as shown:
                judge(name, wrong, right, mistakes, praise)
            assert str(shown.value) == hint
