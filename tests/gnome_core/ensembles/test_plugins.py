"""Models of packages: how one is found and held to what a round started with, and what it may answer."""

import numpy as np
import pytest

from gnome_core.ensembles import plugins
from gnome_core.ensembles.plugins import WrongModel, check_model, make_model, predicted_by
from gnome_core.stability.references import ElementalReferences

REFERENCES = ElementalReferences("scale", {3: -1.0})


class Answers:
    identity, scale = "answers 1", None

    def __init__(self, e_form, spread):
        self.answer = e_form, spread

    def predict(self, crystals, references):
        assert references is REFERENCES
        return plugins.Predicted(*self.answer)


def test_a_name_that_no_package_offers_is_refused_with_those_there_are():
    assert check_model("ensemble") == "ensemble"
    with pytest.raises(ValueError, match=r"no model 'nothing'; there is: ensemble"):
        check_model("nothing")


def test_a_model_is_found_by_its_entry_point_and_held_to_its_identity(pauling, monkeypatch):
    assert check_model("pauling") == "pauling"
    model = make_model("pauling", "pauling 1")
    assert model.scale is None
    with pytest.raises(WrongModel, match="pauling is 'pauling 1' now, and was 'pauling 0' when the round started"):
        make_model("pauling", "pauling 0")


@pytest.mark.parametrize(
    ("e_form", "spread", "error", "message"),
    [
        ([-1.0], [0.1, 0.1], WrongModel, "for 2 crystals"),
        ([-1.0, np.nan], [0.1, 0.1], ValueError, "that is none"),
        ([-1.0, -2.0], [0.1, -0.1], ValueError, "that is none"),
    ],
)
def test_what_is_no_answer_is_refused(e_form, spread, error, message):
    with pytest.raises(error, match=message):
        predicted_by("answers", Answers(e_form, spread), [None, None], REFERENCES)
    good = predicted_by("answers", Answers([-1, -2], [0, 0]), [None, None], REFERENCES)
    assert good.e_form.tolist() == [-1.0, -2.0]
