"""The agreement of answers to one question."""

import pytest

from qacli.batch.agreement import Agreement


@pytest.mark.parametrize(
    ("answers", "is_same", "share"),
    [
        (["yes\n", " yes"], True, 1),
        (["yes", "Yes"], False, 0),
        (['{"a": 1, "b": "x "}', '```json\n{"b":"x","a":1.0}\n```'], True, 1),
        (['{"a": 1}', '{"a": true}'], False, 0),
        (['{"a": 1, "b": [1, {"c": 2}]}', '{"a": 1, "b": [1, {"c": 3}]}'], False, 0.5),
        (['{"a": 1}', '{"a": 1, "b": 2}'], False, 0.5),
        (["[1,2]", "[1, 2]"], True, 1),
        (["{}", "{}"], True, 1),
        (["{}", "no JSON"], False, 0),
        (["1", "1.0"], False, 0),
        (["x", "x", "y"], False, 0),
        (["", ""], True, 1),
    ],
)
def test_agreement_of_answers(answers: list[str], share: float, *, is_same: bool) -> None:
    agreement = Agreement.of(answers)
    assert (agreement.is_same, agreement.share) == (is_same, share)


def test_agreement_a_missing_field_differs_also_from_null() -> None:
    assert Agreement.of(['{"a": null}', "{}"]).different == ["a"]
