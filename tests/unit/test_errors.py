import pickle

import pytest

from service.errors import InternalError, QueueFull, VideoTooShort, error_from_dict, error_types


def test_an_error_survives_pickling_with_its_limit_and_value() -> None:
    error = pickle.loads(pickle.dumps(VideoTooShort("too short", limit=4, actual=2)))  # noqa: S301
    assert isinstance(error, VideoTooShort)
    assert error.to_dict() == VideoTooShort("too short", limit=4, actual=2).to_dict()


def test_an_error_survives_its_plain_form() -> None:
    error = QueueFull("full", limit=10, actual=12, retry_after_s=2.0)
    assert error_from_dict(error.to_dict()).to_dict() == error.to_dict()


def test_a_code_of_a_newer_release_becomes_an_internal_error() -> None:
    assert isinstance(error_from_dict({"code": "from_the_future", "detail": "?"}), InternalError)


@pytest.mark.parametrize("code", sorted(error_types()))
def test_every_code_is_a_lower_case_word(code: str) -> None:
    assert code.replace("_", "a").isalpha()
    assert code.islower()


def test_no_two_errors_share_a_code() -> None:
    # VidtrError itself stands for InternalError's code.
    classes = [cls for cls in error_types().values()]
    assert len({cls.code for cls in classes}) == len(classes)
