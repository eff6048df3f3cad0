"""What a person is told of a replica that cannot start."""

import pytest

from headstart.cluster.serve_app import _last_error

TRACEBACK = """\
The deployment failed to start 2 times in a row.
ray.exceptions.RayTaskError(SetupError): ray::ServeReplica.initialize_and_get_metadata()
  File "replica.py", line 60, in record_replica_metadata
"""


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("headstart.stages.errors.SetupError: no room: buy some", "no room: buy some"),
        ("torch.cuda.OutOfMemoryError: 2 GiB", "OutOfMemoryError: 2 GiB"),
        ("AssertionError", "AssertionError"),
    ],
)
def test_reason_is_what_was_raised_without_its_module(raised: str, told: str) -> None:
    assert _last_error(f"{TRACEBACK}{raised}\n") == told


def test_no_reason_where_nothing_was_raised() -> None:
    assert _last_error("The deployment is being updated.") == ""
