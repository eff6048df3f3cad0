# Invariant: whatever bytes come as a body, they are refused as a bad request or passed on, and the
# engine reads in what is passed on what the client wrote, without what is not the client's to say.
"""Random, damaged and oddly encoded JSON, and junk, in place of a request."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.pipeline.inbound import understand
from tests.fuzz.request_bodies import check

FUZZ_SECONDS = 600
SEEDS = (
    b'{"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "stream": true}',
    b'{"prompt": "a", "priority": -1, "cache_salt": "mine", "headstart": {"detach": true}}',
    b'{"prior\\u0069ty": 1, "priority": NaN, "x": "\\ud800", "y": 1e999}',
    b'\xef\xbb\xbf{"cache_salt": null, "headstart": null, "max_tokens": 0}',
    '{"priority": 1, "model": "fake"}'.encode("utf-16"),
)

NAMES = ("model", "stream", "headstart", "priority", "cache_salt", "prompt", "max_tokens", "x")

names = st.sampled_from(NAMES)
texts = st.text(st.characters())  # half surrogate pairs among them
numbers = st.integers() | st.floats()
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner),
    max_leaves=10,
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("fake") | anything,
        "stream": st.booleans() | anything,
        "headstart": st.fixed_dictionaries({}, optional={"detach": st.booleans()}) | anything,
        "priority": st.integers() | anything,
        "cache_salt": st.text(min_size=1) | anything,
        "prompt": anything,
    },
)


def escaped(name: str) -> str:
    """A JSON string with every character escaped."""
    return '"' + "".join(f"\\u{ord(char):04x}" for char in name) + '"'


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object as odd writers write it: names twice, escaped; any encoding that JSON knows."""
    pairs = [*draw(likely).items(), *draw(st.lists(st.tuples(names | texts, anything), max_size=3))]
    is_ascii = draw(st.booleans())
    members = [
        (escaped(name) if draw(st.booleans()) else json.dumps(name))
        + ":"
        + json.dumps(value, ensure_ascii=is_ascii)
        for name, value in draw(st.permutations(pairs))
    ]
    encoding = draw(st.sampled_from(["utf-8"] * 5 + ["utf-8-sig", "utf-16", "utf-32-le"]))
    return ("{" + ",".join(members) + "}").encode(encoding, "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = draw(objects())
    position = draw(st.integers(0, len(data)))
    return (
        data[:position] + draw(st.binary(max_size=4)) + data[position + draw(st.integers(0, 4)) :]
    )


bodies = st.one_of(
    objects(), damaged(), st.binary(), anything.map(lambda tree: json.dumps(tree).encode())
)


@given(bodies, st.booleans())
@example(b'{"priority":' + b"[" * 100_000 + b"]" * 100_000 + b"}", True)
@example(b'{"x":' + b"[" * 900 + b"NaN" + b"]" * 900 + b', "priority": 1}', True)
@example(b'{"x":' + b"9" * 5000 + b', "priority": 1}', True)
@example(b'{"x": "\xff", "priority": 1}', True)
@example(b'{"x": "\xff", "y": NaN}', True)
@example(b'{"priority":[["\x80"]],"x":{},"priority":""}', True)
@example(b'{"headstart":{},"\x80":null}', False)
@example(b'{"\\ud800":1,"priority":-9}', True)
@example(b'{"headstart":{"\\ud800":1},"priority":-9}', True)
@example(b'{"cache_salt":NaN}', False)
@example(b"\x00", True)
def test_any_body_is_refused_or_passed_on_as_it_was(body: bytes, has_keys: bool) -> None:
    check(body, has_keys=has_keys)


@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("body", SEEDS)
def test_seeds_pass(body: bytes, has_keys: bool) -> None:
    assert check(body, has_keys=has_keys) == "passed on"


@pytest.mark.parametrize("body", [b"", b"Hello!", b'{"x":"\x80","priority":["\x80"],"priority":1}'])
def test_what_the_engine_cannot_read_reaches_it_untouched(body: bytes) -> None:
    assert understand(body, {}, str).body is body


@pytest.mark.heavy
@pytest.mark.timeout(FUZZ_SECONDS + 120)
def test_coverage_guided_bodies_find_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(b"\0" + seed)
    words = tmp_path / "words"
    words.write_text("".join(f'"\\"{name}\\":"\n' for name in NAMES) + '"NaN"\n"\\\\ud800"\n')

    limits = (
        f"-max_total_time={FUZZ_SECONDS}",
        f"-artifact_prefix={tmp_path}/",
        f"-dict={words}",
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.request_parser_atheris", str(corpus), *limits],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]
