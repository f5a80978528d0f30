"""Options that are numbers are finite and written in ASCII."""

import pytest
from pydantic import ValidationError

from service.contracts import JobRequest


@pytest.mark.parametrize("value", ["inf", "1e309", "nan"])
@pytest.mark.parametrize("name", ["start", "end"])
def test_a_time_that_is_not_finite_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        JobRequest.model_validate({name: value})


def test_a_version_in_other_digits_is_refused() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        JobRequest.model_validate({"version": "\N{ARABIC-INDIC DIGIT ONE}"})
