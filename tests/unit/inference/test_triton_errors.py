import pytest
from tritonclient.utils import InferenceServerException

from service.errors import BackendFailed, BackendUnavailable
from service.inference.triton_backend import translate


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size"),
        ("CANCELLED", "the server is going away"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("NOT_FOUND", "Request for unknown model: 'tiny' has no available versions"),
        ("INTERNAL", "Failed to process the request(s) for model 'a_0', message: Stub process 'a_0_0' is not healthy"),
    ],
)
def test_what_may_pass_is_unavailable(status: str, message: str) -> None:
    error = translate(InferenceServerException(message, status=f"StatusCode.{status}"))

    assert isinstance(error, BackendUnavailable)
    assert error.detail == f"Triton answered {status}: {message}."


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("NOT_FOUND", "Request for unknown model: 'tiny' is not found"),
        ("INVALID_ARGUMENT", "unexpected shape"),
        ("INTERNAL", "forward failed"),
        ("UNIMPLEMENTED", "no such method"),
    ],
)
def test_what_will_happen_again_fails(status: str, message: str) -> None:
    error = translate(InferenceServerException(message, status=f"StatusCode.{status}"))

    assert isinstance(error, BackendFailed)
    assert error.detail == f"Triton answered {status}: {message}."


def test_an_error_of_the_client_itself_fails() -> None:
    error = translate(InferenceServerException("the response has no output"))

    assert isinstance(error, BackendFailed)
    assert error.detail == "Triton answered without a status: the response has no output."


def test_of_a_stack_trace_only_the_ends_are_kept() -> None:
    message = "forward failed: in the interpreter\nTraceback\n  File x\nbuiltins.ValueError: too dark\n"

    error = translate(InferenceServerException(message, status="StatusCode.INTERNAL"))

    assert error.detail == (
        "Triton answered INTERNAL: forward failed: in the interpreter … builtins.ValueError: too dark."
    )
