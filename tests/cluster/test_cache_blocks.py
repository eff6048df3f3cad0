"""Which blocks of the prefix cache are for the kernel that attends."""

from collections.abc import Callable

import pytest

from headstart.cluster.cache_blocks import why_not_small


def kernels(large: str, small: str) -> Callable[[int], str]:
    return {32: large, 16: small}.__getitem__


@pytest.mark.parametrize("large", ["vec", "vec16"])
def test_portable_kernel_has_small_blocks(large: str) -> None:
    assert why_not_small(kernels(large, "vec16"), is_quantised=False) is None


@pytest.mark.parametrize("large", ["amx", "neon", "rvv", "vxe", "vsx", "of tomorrow"])
@pytest.mark.parametrize("small", ["vec16", "neon"])
def test_kernel_of_one_kind_of_processor_has_none(large: str, small: str) -> None:
    reason = why_not_small(kernels(large, small), is_quantised=False)

    assert reason == f"the attention kernel {large} takes multiples of 32"


def test_kernel_that_nobody_has_tried_is_not_trusted() -> None:
    reason = why_not_small(kernels("vec", "vec8"), is_quantised=False)

    assert reason == "the attention kernel vec8 is not known to take 16"


def test_quantised_cache_has_none_and_its_kernel_is_not_asked_for() -> None:
    def unasked(_: int) -> str:
        raise AssertionError  # as vLLM, where it has none

    assert why_not_small(unasked, is_quantised=True) == "the KV cache is quantised"
