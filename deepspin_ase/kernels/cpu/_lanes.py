"""Vectors of LANES numbers in compiled kernels.

numba leaves it to the compiler to find loops that fill vectors of the processor, which
fails for short loops and where rows of one array might overlap. Here a vector is a type
of its own with arithmetic, and the compiler cuts it to what the processor has. Arrays
are (rows, LANES), contiguous.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

#: Numbers in a vector.
LANES = 16

_OPERATORS = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}


class Lanes(types.Type):
    """Type of a vector of float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        super().__init__(name=f"Lanes({dtype})")
        self.dtype = dtype


def _vector(dtype: types.Float) -> ir.VectorType:
    return ir.VectorType(
        ir.DoubleType() if dtype.bitwidth == 64 else ir.FloatType(), LANES
    )


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _vector(kind.dtype))


def _spread(context: Any, builder: Any, value: Any, kind: Any, dtype: Any) -> Any:
    """Return a vector of copies of a number."""
    number = context.cast(builder, value, kind, dtype)
    nothing = ir.Constant(_vector(dtype), ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, nothing, mask)


def _define(function: Any, instruction: str) -> None:
    class Arithmetic(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            kinds = [x for x in args if isinstance(x, Lanes)]
            if not kinds or not all(x == kinds[0] for x in kinds):
                return None
            if any(not isinstance(x, (Lanes, types.Number)) for x in args):
                return None
            return signature(kinds[0], *args)

    infer_global(function)(Arithmetic)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.return_type.dtype
        both = [
            x if isinstance(kind, Lanes) else _spread(context, builder, x, kind, dtype)
            for x, kind in zip(args, sig.args, strict=True)
        ]
        return getattr(builder, instruction)(*both)

    for kinds in (
        (Lanes, Lanes),
        (Lanes, types.Number),
        (types.Number, Lanes),
    ):
        lower_builtin(function, *kinds)(lower)


for _function, _instruction in _OPERATORS.items():
    _define(_function, _instruction)


def _place(context: Any, builder: Any, kind: Any, args: Any) -> Any:
    """Return where a row of an array is."""
    array, (row_kind, row) = args
    data = context.make_array(kind)(context, builder, array).data
    first = builder.mul(
        context.cast(builder, row, row_kind, types.intp),
        ir.Constant(ir.IntType(64), LANES),
    )
    place = builder.gep(data, [first])
    return builder.bitcast(place, _vector(kind.dtype).as_pointer())


@intrinsic
def load(context: Any, array: Any, row: Any) -> Any:
    """Return a row of an array as a vector."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        place = _place(context, builder, kind, (args[0], (sig.args[1], args[1])))
        return builder.load(place, align=kind.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, row), code


@intrinsic
def store(context: Any, array: Any, row: Any, value: Any) -> Any:
    """Set a row of an array, in the array's type."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        place = _place(context, builder, kind, (args[0], (sig.args[1], args[1])))
        value = _converted(builder, args[2], sig.args[2].dtype, kind.dtype)
        builder.store(value, place, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, value), code


def _converted(builder: Any, value: Any, old: Any, new: Any) -> Any:
    if old == new:
        return value
    change = builder.fpext if new.bitwidth > old.bitwidth else builder.fptrunc
    return change(value, _vector(new))


@intrinsic
def spread(context: Any, number: Any, array: Any) -> Any:
    """Return a vector of copies of a number, in the array's type."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(context, builder, args[0], sig.args[0], sig.return_type.dtype)

    return Lanes(array.dtype)(number, array), code


@intrinsic
def double(context: Any, value: Any) -> Any:
    """Return a vector in float64."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _converted(builder, args[0], sig.args[0].dtype, types.float64)

    return Lanes(types.float64)(value), code


@intrinsic
def root(context: Any, value: Any) -> Any:
    """Return square roots."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.sqrt.v{LANES}f{sig.return_type.dtype.bitwidth}"
        function = ir.FunctionType(kind, [kind])
        return builder.call(
            get_or_insert_function(builder.module, function, name), args
        )

    return value(value), code
