"""Looks for bodies that break the request parser, led by what they reach in it.

`python -m tests.fuzz.request_parser_atheris CORPUS -max_total_time=600`, with libFuzzer's flags.
The first byte of an input says whether there are keys, the rest is the body.
"""

import sys

import atheris  # type: ignore[import-untyped]  # only where somebody has installed it

with atheris.instrument_imports(include=["headstart.pipeline.inbound", "json"]):
    from tests.fuzz.request_bodies import check


def one_input(data: bytes) -> None:
    """Try one body; what is raised is a finding."""
    check(data[1:], has_keys=bool(data[:1] and data[0] & 1))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
