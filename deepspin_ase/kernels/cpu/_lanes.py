"""Vectors of numbers in compiled kernels.

numba leaves it to the compiler to find loops that fill vectors of the processor, which
fails for short loops and where rows of one array might overlap. Here a vector is a type
of its own with arithmetic, and the compiler cuts it to what the processor has.

A row of an array (rows, LANES) is a vector of LANES numbers, one of an array
(rows, GROUP, LANES) a vector of GROUP times as many. Arrays are contiguous.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import binding, ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


def _has_wide_registers() -> bool:
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # not known on this platform
        return False


#: Numbers in a vector: two registers of float64.
LANES = 16 if _has_wide_registers() else 8

#: Vectors in a wide one.
GROUP = 4

_OPERATORS = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}


class Lanes(types.Type):
    """Type of a vector of float32 or float64."""

    def __init__(self, dtype: types.Float, width: int) -> None:
        super().__init__(name=f"Lanes({dtype}, {width})")
        self.dtype = dtype
        self.width = width

    @classmethod
    def of(cls, array: Any) -> Lanes:
        """Return the type of the rows of an array."""
        return cls(array.dtype, LANES if array.ndim == 2 else GROUP * LANES)

    @property
    def vector(self) -> ir.VectorType:
        """The vector of the compiler."""
        number = ir.DoubleType() if self.dtype.bitwidth == 64 else ir.FloatType()
        return ir.VectorType(number, self.width)


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.vector)


def _chosen(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    """Return the numbers at some places of one vector after the other."""
    kind = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(a, b, ir.Constant(kind, places))


def _spread(context: Any, builder: Any, value: Any, kind: Any, to: Lanes) -> Any:
    """Return a vector of copies of a number."""
    number = context.cast(builder, value, kind, to.dtype)
    nothing = ir.Constant(to.vector, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return _chosen(builder, one, nothing, [0] * to.width)


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
        to = sig.return_type
        both = [
            x if isinstance(kind, Lanes) else _spread(context, builder, x, kind, to)
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


def _place(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, int]:
    """Return where a row of an array is, and how addresses of numbers are aligned."""
    kind = Lanes.of(sig.args[0])
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    row = context.cast(builder, args[1], sig.args[1], types.intp)
    first = builder.mul(row, ir.Constant(row.type, kind.width))
    place = builder.bitcast(builder.gep(data, [first]), kind.vector.as_pointer())
    return place, kind.dtype.bitwidth // 8


def _converted(builder: Any, value: Any, old: Lanes, new: Lanes) -> Any:
    if old.dtype == new.dtype:
        return value
    wider = new.dtype.bitwidth > old.dtype.bitwidth
    return (builder.fpext if wider else builder.fptrunc)(value, new.vector)


@intrinsic
def load(context: Any, array: Any, row: Any) -> Any:
    """Return a row of an array as a vector."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place, alignment = _place(context, builder, sig, args)
        return builder.load(place, align=alignment)

    return Lanes.of(array)(array, row), code


@intrinsic
def store(context: Any, array: Any, row: Any, value: Any) -> Any:
    """Set a row of an array, in the array's type."""
    if value.width != Lanes.of(array).width:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place, alignment = _place(context, builder, sig, args)
        value = _converted(builder, args[2], sig.args[2], Lanes.of(sig.args[0]))
        builder.store(value, place, align=alignment)
        return context.get_dummy_value()

    return types.void(array, row, value), code


@intrinsic
def spread(context: Any, number: Any, array: Any) -> Any:
    """Return a vector of copies of a number, as the rows of an array are."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(context, builder, args[0], sig.args[0], sig.return_type)

    return Lanes.of(array)(number, array), code


@intrinsic
def double(context: Any, value: Any) -> Any:
    """Return a vector in float64."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _converted(builder, args[0], sig.args[0], sig.return_type)

    return Lanes(types.float64, value.width)(value), code


@intrinsic
def repeat(context: Any, value: Any) -> Any:
    """Return a wide vector of copies of a vector."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _chosen(builder, args[0], args[0], list(range(LANES)) * GROUP)

    return Lanes(value.dtype, GROUP * LANES)(value), code


@intrinsic
def folded(context: Any, total: Any, value: Any) -> Any:
    """Return a vector plus the vectors of a wide one."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        total, value = args
        for first in range(0, GROUP * LANES, LANES):
            part = _chosen(builder, value, value, list(range(first, first + LANES)))
            total = builder.fadd(total, part)
        return total

    return total(total, value), code


@intrinsic
def root(context: Any, value: Any) -> Any:
    """Return square roots."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        name = f"llvm.sqrt.v{kind.width}f{kind.dtype.bitwidth}"
        function = ir.FunctionType(kind.vector, [kind.vector])
        called = get_or_insert_function(builder.module, function, name)
        return builder.call(called, args)

    return value(value), code
