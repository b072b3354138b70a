"""What GlaS tells of the class: the rules on made data, the kept numbers on the real data."""

import pytest
import torch
from real_data import REAL

from wsl_tutorial.data import glas
from wsl_tutorial.reproduce.regions import leaks


def test_a_patient_answers_as_most_of_the_images():
    patients, labels = torch.tensor([1, 1, 1, 2, 2, 3, 4]), torch.tensor([0, 0, 1, 0, 1, 1, 1])
    asked = torch.tensor([4, 3, 2, 1, 9])  # 2 is a tie, 9 unknown: the label of most images, 1
    assert leaks.by_patient(patients, labels, asked).tolist() == [1, 1, 1, 0, 1]


def test_colours_are_of_one_side_of_the_mask():
    image = torch.zeros(3, 16, 24, dtype=torch.uint8)
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[:, 10:] = True  # the column of squares from 8 to 11 is on neither side
    image[0], image[1, :, 8:] = 200, 100
    outside, inside = (leaks.colours([image], [mask], side)[0] for side in (False, True))
    assert outside[:3].tolist() == [200, 0, 0]
    assert inside[:3].tolist() == [200, 100, 0]
    assert inside[5:8].tolist() == [0, 0, 0]
    for found in (outside, inside):  # nor does a gradient cross the outline
        assert found[3:5].tolist() == [0, 0]


def test_a_logistic_regression_separates_what_can_be():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    noise = torch.randn(200, 3, generator=generator)
    error, area = leaks.separated(noise[:100] + 6 * y[:100, None], y[:100], noise[100:], y[100:])
    assert abs(area - 50) < 20
    assert error > 40  # nothing in the test says the class
    found = leaks.separated(noise[:100] + 9 * y[:100, None], y[:100], noise + 9 * y[:, None], y)
    assert found == (0.0, 100.0)


@pytest.mark.data
def test_real_the_kept_numbers_are_those_of_glas():
    try:
        glas.contents(REAL)
    except FileNotFoundError:
        pytest.skip("glas is neither in $WSL_DATA nor in shared/data")
    found = leaks.measure(REAL)
    assert list(found) == list(leaks.MEASURED)
    for (what, value), kept in zip(found.items(), leaks.MEASURED.values(), strict=True):
        reach = 3 if "colours" in what else 0.01  # JPEG and BMP differ in colour
        assert value == pytest.approx(kept, abs=reach), what
