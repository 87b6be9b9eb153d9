"""Dataclasses of arrays and scalars to msgpack and back by name: for requests, events, and what lasts.

A reader of another version finds what it knows, and an outsider can write a request. What is sent on every tick is
packed by position instead: packed.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from bmsd.errors import FrameError

T = TypeVar("T")

ARRAY = 1
"""msgpack extension type of an array: dtype, shape, raw bytes in C order."""


def encode(value: Any) -> bytes:
    """Return the msgpack of a dataclass, mapping, sequence, array or scalar. TypeError for anything else."""
    packed: bytes = msgpack.packb(value, default=_default, use_bin_type=True)
    return packed


def decode(data: bytes, kind: type[T]) -> T:
    """Return the dataclass `kind` that `data` holds; FrameError names the field that does not fit."""
    try:
        plain = msgpack.unpackb(data, ext_hook=_extension, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack raises several unrelated types for garbage
        raise FrameError(f"not a record: {error}") from error
    try:
        built: T = _build(plain, kind, kind.__name__)
    except (TypeError, ValueError) as error:  # a value that its enumeration or its set does not take
        raise FrameError(f"not a {kind.__name__}: {error}") from error
    return built


def _default(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        head = msgpack.packb((value.dtype.str, value.shape))
        return msgpack.ExtType(ARRAY, head + np.ascontiguousarray(value).tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in _names(type(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot record a {type(value).__name__}")


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _extension(code: int, data: bytes) -> Any:
    if code != ARRAY:
        raise ValueError(f"extension {code} is not known")
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    dtype, shape = unpacker.unpack()
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise ValueError("an array of objects is not a record")
    return np.frombuffer(data, dtype=kind, offset=unpacker.tell()).reshape(shape).copy()


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _build(value: Any, kind: Any, where: str) -> Any:
    """Give a decoded value the type that the field declares."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if isinstance(value, np.ndarray):
        return _array(value, kind, where)
    if origin is np.ndarray:
        raise FrameError(f"{where}: {value!r} is not an array")
    if origin is dict:
        return _build_dict(value, get_args(kind), where)
    if origin in (Union, UnionType):
        return _build_union(value, kind, where)
    if origin is tuple:
        return _build_tuple(value, get_args(kind), where)
    if origin is frozenset:
        return frozenset(_build(item, get_args(kind)[0], where) for item in value)
    if isinstance(kind, type) and is_dataclass(kind):
        return _build_dataclass(value, kind, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is not kind:
        raise FrameError(f"{where}: {value!r} is not {kind.__name__}")
    if kind is float:
        raise FrameError(f"{where}: {value!r} is not a number")
    return value


def _array(value: Any, kind: Any, where: str) -> Any:
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if not any(get_origin(choice) is np.ndarray for choice in choices):
        raise FrameError(f"{where}: an array is not {getattr(kind, '__name__', kind)}")
    return value


def _build_dict(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, dict):
        raise FrameError(f"{where}: {value!r} is not a table")
    return {_build(name, args[0], where): _build(one, args[1], where) for name, one in value.items()}


def _build_union(value: Any, kind: Any, where: str) -> Any:
    if value is None and NoneType in get_args(kind):
        return None
    choices = [arg for arg in get_args(kind) if arg is not NoneType]
    if len(choices) > 1 and isinstance(value, dict):
        choices = [choice for choice in choices if _fits(value, choice)]
        if len(choices) != 1:
            raise FrameError(f"{where}: {sorted(value)} are the fields of {len(choices)} of the kinds it may be")
    return _build(value, choices[0], where)


def _fits(value: dict[str, Any], kind: Any) -> bool:
    """Whether these are the fields of the dataclass: all that it needs and none that it has not."""
    if not is_dataclass(kind):
        return False
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return needed <= value.keys() <= {f.name for f in fields(kind)}


def _build_tuple(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise FrameError(f"{where}: {value!r} is not a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_build(item, args[0], where) for item in value)
    if len(args) != len(value):
        raise FrameError(f"{where}: {len(value)} values, expected {len(args)}")
    return tuple(_build(item, arg, where) for item, arg in zip(value, args, strict=True))


def _build_dataclass(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise FrameError(f"{where}: {value!r} is not a {kind.__name__}")
    hints, known = _hints(kind), {}
    for field in fields(kind):
        if field.name in value:
            known[field.name] = _build(value[field.name], hints[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise FrameError(f"{where}.{field.name} is missing")
    return kind(**known)
