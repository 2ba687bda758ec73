from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway_runtime.errors import BadRequest, UnrepresentableOutput
from slipway_runtime.inference.json_values import from_nested, from_row_major, to_json_ready
from slipway_runtime.inference.tensors import DATATYPES, TensorSpec, check_shape

NUMERIC = [name for name in DATATYPES if name not in ("BYTES", "BF16")]


def spec(datatype: str = "FP32", *shape: int | None) -> TensorSpec:
    return TensorSpec("x", DATATYPES[datatype], shape or None)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Any]:
    """An array of any numeric datatype and shape: 0-d, empty, and with extreme values."""
    name = draw(st.sampled_from(NUMERIC))
    dtype = DATATYPES[name].dtype
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    elements = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return name, draw(hnp.arrays(dtype, shape, elements=elements))


def through_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


@given(arrays())
def test_an_array_comes_back_from_nested_json_bit_for_bit(case: tuple[str, Any]) -> None:
    name, array = case
    document = through_json(to_json_ready(spec(name), array))
    back = from_nested(spec(name), document)
    # JSON keeps no dimension behind an empty one.
    expected = array if 0 not in array.shape else np.empty(back.shape, array.dtype)
    assert back.dtype == array.dtype
    assert back.shape == expected.shape
    assert back.tobytes() == expected.tobytes()


@given(arrays())
def test_an_array_comes_back_from_row_major_json_bit_for_bit(case: tuple[str, Any]) -> None:
    name, array = case
    document = through_json(to_json_ready(spec(name), array.reshape(-1)))
    back = from_row_major(spec(name), document, array.shape)
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(hnp.arrays(np.float32, (3, 4), elements={"allow_nan": False, "allow_infinity": False}))
def test_neither_strides_nor_byte_order_change_what_is_sent(array: Any) -> None:
    expected = through_json(array)
    for variant in (array.T.copy().T, array[::-1][::-1], array.astype(">f4")):
        assert through_json(to_json_ready(spec(), variant)) == expected


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            min_size=2,
            max_size=2,
        )
    )
)
def test_strings_come_back(rows: list[list[str]]) -> None:
    array = from_nested(spec("BYTES"), rows)
    assert array.tolist() == rows
    assert through_json(to_json_ready(spec("BYTES"), array)) == rows


@pytest.mark.parametrize("value", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_int64_is_exact_beyond_what_a_double_holds(value: int) -> None:
    array = from_nested(spec("INT64"), orjson.loads(orjson.dumps([value])))
    assert through_json(to_json_ready(spec("INT64"), array)) == [value]


def test_uint64_is_exact_up_to_its_end() -> None:
    array = from_nested(spec("UINT64"), orjson.loads(b"[18446744073709551615]"))
    assert through_json(to_json_ready(spec("UINT64"), array)) == [18446744073709551615]


@pytest.mark.parametrize(
    ("datatype", "value", "message"),
    [
        ("FP32", [1, True], "expected a number at index [1], got true"),
        ("INT64", [True], "expected an integer at index [0], got true"),
        ("BOOL", [1], "expected true or false at index [0], got the number 1"),
        ("INT32", [1.0], "expected an integer at index [0], got the number 1.0"),
        ("FP32", [[1], [None]], "expected a number at index [1, 0], got null"),
        ("FP32", ["1.5"], "expected a number at index [0], got the string '1.5'"),
        ("FP32", [{}], "expected a number at index [0], got an object"),
        ("FP32", "a", "expected a number, got the string 'a'"),
        ("BYTES", [1], "expected a string at index [0], got the number 1"),
        ("INT8", [0, 128], "the value at index [1] is out of range for INT8"),
        ("UINT8", [-1], "the value at index [0] is out of range for UINT8"),
        ("FP16", [1, 1e6], "the value at index [1] is out of range for FP16"),
        ("FP32", [1e39], "the value at index [0] is out of range for FP32"),
        ("FP64", [10**400], "the value at index [0] is out of range for FP64"),
        ("BYTES", ["a\0b"], "holds a NUL character"),
        ("FP32", [[1, 2], [3]], "at index [1] is a list of 1 where the first is a list of 2"),
        ("FP32", [[1, 2], 3], "at index [1] is the number 3 where the first is a list of 2"),
        ("FP32", [1, [2]], "at index [1] is a list of 1 where the first is the number 1"),
        ("FP32", [[[1], [2]], [[3], []]], "at index [1, 1] is a list of 0"),
    ],
)
def test_what_is_not_of_the_datatype_is_refused_with_its_place(
    datatype: str, value: Any, message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        from_nested(spec(datatype), value)
    assert "'x'" in caught.value.message
    assert message in caught.value.message


def test_lists_nested_beyond_reason_are_refused() -> None:
    value: Any = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(BadRequest, match="32 deep"):
        from_nested(spec(), value)


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        ([1, 2, 3], [2, 2], "the shape [2, 2] has 4 elements, data has 3"),
        ([[1, 2], [3, 4]], [4, 1], "nested lists of data have the shape [2, 2]"),
        (5, [1], "data must be a list, got the number 5"),
        ([], [1], "has 1 elements, data has 0"),
    ],
)
def test_data_must_fill_the_shape(data: Any, shape: list[int], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_row_major(spec(), data, shape)
    assert message in caught.value.message


def test_data_may_be_nested_as_its_shape() -> None:
    assert from_row_major(spec(), [[1, 2], [3, 4]], [2, 2]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([4], "has 2 dimensions [-1, 4], got 1 with the shape [4]"),
        ([1, 5], "dimension 1 must be 4, not 5"),
        ([1, 4, 1], "got 3 with the shape [1, 4, 1]"),
    ],
)
def test_rank_and_fixed_dimensions_are_checked(shape: list[int], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_shape(spec("FP32", None, 4), shape)
    assert message in caught.value.message


def test_a_symbolic_dimension_takes_any_size() -> None:
    for size in (0, 1, 7):
        check_shape(spec("FP32", None, 4), [size, 4])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_output_without_a_json_form_is_never_null(value: float) -> None:
    with pytest.raises(UnrepresentableOutput, match=r"output 'x' holds 2 of 3 values"):
        to_json_ready(spec(), np.array([1.0, value, value], dtype=np.float32))


def test_string_outputs_that_are_bytes_are_decoded() -> None:
    assert to_json_ready(spec("BYTES"), np.array([b"a", "b"], dtype=object)) == ["a", "b"]
    with pytest.raises(UnrepresentableOutput, match="not UTF-8"):
        to_json_ready(spec("BYTES"), np.array([b"\xff"], dtype=object))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("null", [1.5, None, None, None]),
        ("string", [1.5, "NaN", "Infinity", "-Infinity"]),
    ],
)
def test_values_without_a_json_form_are_substituted_where_the_operator_asks_for_it(
    how: Any, expected: list[Any]
) -> None:
    array = np.array([1.5, math.nan, math.inf, -math.inf], dtype=np.float32)
    assert to_json_ready(spec(), array, how) == expected
    assert to_json_ready(spec(), array[1], how) == expected[1]


def test_beside_substitutes_numbers_keep_the_digits_of_their_datatype() -> None:
    array = np.array([[0.1, math.nan]], dtype=np.float32)
    document = orjson.dumps(to_json_ready(spec(), array, "null"), option=orjson.OPT_SERIALIZE_NUMPY)
    assert document == b"[[0.1,null]]"


BF16_VALUES = st.integers(0, 2**16 - 1).filter(lambda bits: bits & 0x7F80 != 0x7F80)


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=1, min_side=0), elements=BF16_VALUES))
def test_every_finite_bfloat16_comes_back_from_json_bit_for_bit(bits: Any) -> None:
    document = through_json(to_json_ready(spec("BF16"), bits.reshape(-1)))
    back = from_row_major(spec("BF16"), document, bits.shape)
    assert back.dtype == np.uint16
    assert back.tobytes() == bits.tobytes()


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),  # Halfway between two: to the even one,
        (1.01171875, 0x3F82),  # which may be above
        (1.0039063, 0x3F81),
        (-0.0, 0x8000),
        (-1.0039063, 0xBF81),
        (1.0 + 2**-8 + 2**-40, 0x3F81),
        (3.3895313892515355e38, 0x7F7F),
    ],
)
def test_a_number_becomes_the_nearest_bfloat16(number: float, bits: int) -> None:
    assert from_nested(spec("BF16"), [number]).tolist() == [bits]


def test_a_number_above_the_largest_bfloat16_is_out_of_range() -> None:
    with pytest.raises(BadRequest, match=r"at index \[1\] is out of range for BF16"):
        from_nested(spec("BF16"), [1, 3.4e38])
