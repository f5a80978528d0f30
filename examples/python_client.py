"""Usage: python python_client.py VIDEO [SERVER]. Needs `pip install vidtr-serve`."""

import sys

from service.client import Client, Progress, RequestError, ServiceError, TemporaryError, VideoError


def show(progress: Progress) -> None:
    """Called with the bytes sent, then with the clips scored."""
    print(f"{progress.stage}: {progress.done} of {progress.total}", file=sys.stderr)


def main(video: str, server: str = "http://localhost:8080") -> int:
    with Client(server) as client:
        try:
            result = client.classify(video, windows="all", top_k=1, progress=show)
        except VideoError as error:
            print(f"This video cannot be used ({error.code}): {error.detail}")
            return 1
        except RequestError as error:
            print(f"The request is wrong ({error.code}): {error.detail}")
            return 2
        except TemporaryError as error:
            print(f"Try again in {error.retry_after_s} s ({error.code}).")
            return 3
        except ServiceError as error:
            print(f"The service failed ({error.code}); its log has {error.request_id}.")
            return 4
    for window in result.windows:
        best = window.predictions[0]
        print(f"{window.start_s:7.2f} s to {window.end_s:7.2f} s  {best.label}  {best.score:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
