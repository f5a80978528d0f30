"""The sizes that are tried: doubled up to the largest."""

import pytest

from service.doublings import doublings


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_sizes_double_up_to_the_largest(most: int, sizes: list[int]) -> None:
    assert doublings(most) == sizes
