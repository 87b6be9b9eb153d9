"""Dataclasses of arrays and scalars to bytes and back by position: for what is sent on every tick.

Theory of operation. A packed record is, in this order:

    8 bytes   hash of the layout: names and types of all fields, see `layout`; another one is never read
    4 + 4     lengths of directory and head, little endian
    directory msgpack: dtype and shape of every array
    head      msgpack: all that is no array, as nested sequences in the order of the fields
    padding   to a multiple of 8; then the arrays one after the other, each padded likewise

Directories repeat from tick to tick and are read once. For each dataclass two functions are written as source and
compiled, like those that `dataclass` itself writes; for `Bound` they read

    def write(v, put):                        def read(v, take):
        return (v.amps, v.reason, ...)            a0, a1, ... = fields(v, 4, 'Bound')
                                                  if type(a0) is not float: a0 = number(a0, 'Bound.amps')
                                                  ...
                                                  return Bound(a0, a1, ...)

Every type is checked: whatever the bytes are, reading them gives a record or a FrameError. Arrays that were read are
views of the received bytes and cannot be written to.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from bmsd.errors import FrameError

T = TypeVar("T")
Put = Callable[[Any], None]
Take = Callable[[], Any]
Write = Callable[[Any, Put], Any]
Read = Callable[[Any, Take], Any]

_START = struct.Struct("<8sII")
_SCALARS = (int, str, bool)
_ALIGNED = 8
_PADS = [bytes(-size % _ALIGNED) for size in range(_ALIGNED)]


def encode(value: Any) -> bytes:
    """Return the bytes of a dataclass. TypeError for a field of a type that cannot be packed."""
    plan = _plan(type(value))
    arrays: list[Any] = []
    head = msgpack.packb(plan.write(value, arrays.append), default=_scalar)
    directory, pads = _directory_of(tuple([(array.dtype, array.shape) for array in arrays]))
    start = _START.pack(plan.hash, len(directory), len(head))
    parts = [start, directory, head, _PADS[(len(directory) + len(head)) % _ALIGNED]]
    for array, pad in zip(arrays, pads, strict=True):
        parts.append(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        if pad:
            parts.append(pad)
    return b"".join(parts)


def decode(data: bytes, kind: type[T]) -> T:
    """Return the dataclass `kind` that `data` holds; FrameError says what does not fit."""
    plan = _plan(kind)
    if len(data) < _START.size:
        raise FrameError(f"not a {kind.__name__}: {len(data)} bytes")
    found, directory_size, head_size = _START.unpack_from(data)
    if found != plan.hash:
        raise FrameError(f"a {kind.__name__} of another version of bmsd: layout {found.hex()}, not {plan.hash.hex()}")
    head_at = _START.size + directory_size
    arrays_at = head_at + head_size
    try:
        head = msgpack.unpackb(data[head_at:arrays_at], use_list=False, strict_map_key=False)
        arrays_at += -arrays_at % _ALIGNED
        places = _places(data[_START.size : head_at], len(data) - arrays_at)
        arrays = iter([np.ndarray(shape, dtype, data, arrays_at + offset) for shape, dtype, offset in places])
    except Exception as error:  # msgpack and NumPy raise several unrelated types for garbage
        raise FrameError(f"not a {kind.__name__}: {error}") from error
    try:
        value: T = plan.read(head, arrays.__next__)
    except StopIteration:
        raise FrameError(f"not a {kind.__name__}: fewer arrays than it has") from None
    if next(arrays, None) is not None:
        raise FrameError(f"not a {kind.__name__}: more arrays than it has")
    return value


def layout(kind: type) -> str:
    """Return names and types of all fields of a dataclass and of those in it, a line for each type."""
    lines: dict[str, str] = {}
    _describe(kind, lines)
    return "".join(f"{name}: {line}\n" for name, line in lines.items())


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one dataclass is packed: the hash of its layout, the functions that write and read it."""

    hash: bytes
    write: Write
    read: Read


_PLANS: dict[type, _Plan] = {}


def _plan(kind: type) -> _Plan:
    if kind not in _PLANS:
        digest = hashlib.sha256(layout(kind).encode()).digest()
        _PLANS[kind] = _Plan(digest[:8], *_functions(kind))
    return _PLANS[kind]


def _scalar(value: Any) -> Any:
    """What msgpack does not know: a scalar of NumPy."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot pack a {type(value).__name__}")


# --- arrays


@lru_cache(maxsize=64)
def _directory_of(arrays: tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]) -> tuple[bytes, list[bytes]]:
    """Return the directory of these arrays, and what is to follow each of them."""
    for dtype, _ in arrays:
        _check_dtype(dtype)
    directory: bytes = msgpack.packb([(dtype.str, shape) for dtype, shape in arrays])
    return directory, [_PADS[_size(dtype, shape) % _ALIGNED] for dtype, shape in arrays]


@lru_cache(maxsize=64)
def _places(directory: bytes, size: int) -> list[tuple[tuple[int, ...], np.dtype[Any], int]]:
    """Return shape, dtype and offset of every array. ValueError or TypeError when `size` bytes do not hold them."""
    places, offset = [], 0
    for name, shape in msgpack.unpackb(directory, use_list=False):
        if type(name) is not str or type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of {name!r} and shape {shape!r}")
        dtype = np.dtype(name)
        _check_dtype(dtype)
        places.append((shape, dtype, offset))
        offset += _size(dtype, shape)
        offset += -offset % _ALIGNED
    if offset != size:
        raise ValueError(f"arrays of {offset} bytes in {size} bytes")
    return places


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > _ALIGNED:
        raise TypeError(f"an array of {dtype} is not packed")


def _size(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def _as(array: Any, dtype: np.dtype[Any], where: str) -> Any:
    """Return the array as the field declares it; FrameError when that would lose something."""
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise FrameError(f"{where}: an array of {array.dtype}, expected {dtype}")
    return array.astype(dtype)


# --- one dataclass


@cache
def _functions(kind: type) -> tuple[Write, Read]:
    """Return the compiled functions that write and read this dataclass."""
    names: dict[str, Any] = {"kind": kind, "fields": _fields, "number": _number, "wrong": _wrong, "as_": _as}
    writes, reads, written, built = [], [], [], []
    for index, (name, hint) in enumerate(_hints(kind).items()):
        item, where = f"a{index}", f"{kind.__name__}.{name}"
        built.append(item)
        if _dtype_of(hint):
            names[f"dtype{index}"] = _dtype_of(hint)
            writes.append(f"put(v.{name})")
            reads += [
                f"{item} = take()",
                f"if {item}.dtype is not dtype{index}: {item} = as_({item}, dtype{index}, {where!r})",
            ]
            continue
        written.append(item)
        writes.append(f"{item} = v.{name}")
        scalar, or_none = _scalar_of(hint)
        if scalar is None:
            names[f"write{index}"], names[f"read{index}"] = _writer(hint), _reader(hint, where)
            writes.append(f"{item} = write{index}({item}, put)")
            reads.append(f"{item} = read{index}({item}, take)")
            continue
        unless_none = f" and {item} is not None" if or_none else ""
        then = f"{item} = number({item}, {where!r})"
        if scalar is not float:
            then = f"wrong({item}, {where!r}, {scalar.__name__!r})"
        reads.append(f"if type({item}) is not {scalar.__name__}{unless_none}: {then}")
    head = f"({', '.join(written)}{',' * (len(written) == 1)})"
    first = f"{head} = fields(v, {len(written)}, {kind.__name__!r})"
    if not written:
        first = f"fields(v, 0, {kind.__name__!r})"
    writes.append(f"return {head}")
    reads = [first, *reads, f"return kind({', '.join(built)})"]
    source = "\n    ".join(["def write(v, put):", *writes]) + "\n" + "\n    ".join(["def read(v, take):", *reads])
    exec(source, names)  # built of the names and types of our own dataclasses, never of what was received
    return names["write"], names["read"]


def _hints(kind: Any) -> dict[str, Any]:
    """Types of the fields by name, in the order of the fields."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _dtype_of(hint: Any) -> np.dtype[Any] | None:
    """The dtype of the array that is declared, None when it is no array."""
    if get_origin(hint) is not np.ndarray:
        return None
    dtype: np.dtype[Any] = np.dtype(get_args(get_args(hint)[1])[0])
    return dtype


def _scalar_of(hint: Any) -> tuple[type | None, bool]:
    """The type when it is a plain scalar, None otherwise; and whether it may be None."""
    choices = [choice for choice in _choices(hint) if choice is not NoneType]
    if len(choices) != 1 or choices[0] not in (float, *_SCALARS):
        return None, False
    return choices[0], NoneType in _choices(hint)


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fields(value: Any, count: int, where: str) -> Any:
    if type(value) is not tuple or len(value) != count:
        raise FrameError(f"{where}: {_short(value)} is not a sequence of {count} values")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) is not int:
        _wrong(value, where, "number")
    return float(value)


def _wrong(value: Any, where: str, what: str) -> Any:
    raise FrameError(f"{where}: {_short(value)} is not {what}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


# --- what is not hot: any type


def _writer(hint: Any) -> Write:
    """Return the function that writes a value of this type."""
    origin, choices = get_origin(hint), _choices(hint)
    if _dtype_of(hint):
        return lambda value, put: put(value)
    if NoneType in choices:
        inner = _writer(_without_none(hint))
        return lambda value, put: None if value is None else (inner(value, put),)
    if len(choices) > 1:
        kinds = {choice: (index, _writer(choice)) for index, choice in enumerate(choices)}
        return lambda value, put: (kinds[type(value)][0], kinds[type(value)][1](value, put))
    if isinstance(hint, type) and is_dataclass(hint):
        return _functions(hint)[0]
    if origin is tuple and get_args(hint)[1:] == (Ellipsis,):
        item = _writer(get_args(hint)[0])
        return lambda value, put: [item(one, put) for one in value]
    if origin is tuple:
        items = [_writer(one) for one in get_args(hint)]
        return lambda value, put: [write(one, put) for write, one in zip(items, value, strict=True)]
    if origin is frozenset:
        item = _writer(get_args(hint)[0])
        return lambda value, put: sorted(item(one, put) for one in value)
    if origin is dict or hint in (float, *_SCALARS):
        return lambda value, put: value  # noqa: ARG005
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value, put: value.value  # noqa: ARG005
    raise TypeError(f"cannot pack a {hint}")


def _reader(hint: Any, where: str) -> Read:
    """Return the function that reads a value of this type; `where` names the field."""
    origin, choices = get_origin(hint), _choices(hint)
    dtype = _dtype_of(hint)
    if dtype:
        return lambda value, take: _as(take(), dtype, where)  # noqa: ARG005
    if NoneType in choices:
        inner = _reader(_without_none(hint), where)
        return lambda value, take: None if value is None else inner(_fields(value, 1, where)[0], take)
    if len(choices) > 1:
        return _union_reader([_reader(choice, where) for choice in choices], where)
    if isinstance(hint, type) and is_dataclass(hint):
        return _functions(hint)[1]
    if origin in (tuple, frozenset):
        return _sequence_reader(hint, where)
    if origin is dict:
        return _dict_reader(get_args(hint), where)
    if hint is float:
        return lambda value, take: value if type(value) is float else _number(value, where)  # noqa: ARG005
    if hint in _SCALARS:
        return lambda value, take: value if type(value) is hint else _wrong(value, where, hint.__name__)  # noqa: ARG005
    if isinstance(hint, type) and issubclass(hint, Enum):
        members = {member.value: member for member in hint}
        return lambda value, take: (  # noqa: ARG005
            members[value] if type(value) in (int, str) and value in members else _wrong(value, where, hint.__name__)
        )
    raise TypeError(f"cannot pack a {hint}")


def _union_reader(readers: list[Read], where: str) -> Read:
    def read(value: Any, take: Take) -> Any:
        index, inner = _fields(value, 2, where)
        if type(index) is not int or not 0 <= index < len(readers):
            _wrong(index, where, f"one of {len(readers)} kinds")
        return readers[index](inner, take)

    return read


def _sequence_reader(hint: Any, where: str) -> Read:
    arguments = get_args(hint)
    if get_origin(hint) is tuple and arguments[1:] != (Ellipsis,):
        items = [_reader(one, where) for one in arguments]
        return lambda value, take: tuple(
            [read(one, take) for read, one in zip(items, _fields(value, len(items), where), strict=True)]
        )
    item, collection = _reader(arguments[0], where), get_origin(hint)

    def read_all(value: Any, take: Take) -> Any:
        if type(value) is not tuple:
            _wrong(value, where, "a sequence")
        return collection([item(one, take) for one in value])

    return read_all


def _dict_reader(hints: tuple[Any, ...], where: str) -> Read:
    keys, values = (_reader(hint, where) for hint in hints)

    def read(found: Any, take: Take) -> Any:
        if type(found) is not dict:
            _wrong(found, where, "a table")
        return {keys(name, take): values(one, take) for name, one in found.items()}

    return read


def _without_none(hint: Any) -> Any:
    return Union[tuple(choice for choice in get_args(hint) if choice is not NoneType)]  # noqa: UP007


def _describe(hint: Any, lines: dict[str, str]) -> str:
    """Return the type as text; dataclasses and enumerations become lines of their own."""
    origin, arguments = get_origin(hint), get_args(hint)
    dtype = _dtype_of(hint)
    if dtype:
        return f"array of {dtype}"
    if origin is not None:
        name = "" if origin in (Union, UnionType) else origin.__name__
        inner = [_describe(one, lines) for one in arguments]
        return f"{name}[{', '.join(inner)}]" if name else " or ".join(inner)
    if hint in (NoneType, Ellipsis):
        return "none" if hint is NoneType else "..."
    name = str(hint.__name__)
    if name not in lines and issubclass(hint, Enum):
        lines[name] = ", ".join(f"{member.name} {member.value}" for member in hint)
    elif name not in lines and is_dataclass(hint):
        lines[name] = ""
        lines[name] = ", ".join(f"{field} {_describe(one, lines)}" for field, one in _hints(hint).items())
    return name
