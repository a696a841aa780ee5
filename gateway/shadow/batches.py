"""Joining requests into one batch and taking the answer apart again, on raw bytes.

Rows of one tensor lie one behind the other, also those of BYTES, so joining is concatenation
and needs no numpy. Only requests whose tensors agree in all but dimension 0 are joined.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence

from gateway.core.records import TensorRecord
from gateway.core.tensors import DATATYPES

_LENGTH = struct.Struct("<I")

Kind = tuple[tuple[str, str, tuple[int, ...]], ...]


def kind_of(inputs: Iterable[TensorRecord]) -> Kind:
    """What two requests must have in common to be joined."""
    return tuple((t.name, t.datatype, t.shape[1:]) for t in inputs)


def join(requests: Sequence[Sequence[TensorRecord]]) -> list[TensorRecord]:
    """One batch of several requests of the same kind."""
    if len(requests) == 1:
        return list(requests[0])
    return [
        TensorRecord(
            parts[0].name,
            parts[0].datatype,
            (sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
            b"".join([part.data for part in parts]),
        )
        for parts in zip(*requests, strict=True)
    ]


def split(outputs: Sequence[TensorRecord], rows: Sequence[int]) -> list[list[TensorRecord]]:
    """The batch's outputs as those of each request. Raises ValueError if rows do not add up."""
    if len(rows) == 1:
        return [list(outputs)]
    columns = [_cut(tensor, rows) for tensor in outputs]
    return [[column[i] for column in columns] for i in range(len(rows))]


def _cut(tensor: TensorRecord, rows: Sequence[int]) -> list[TensorRecord]:
    if tensor.shape[:1] != (sum(rows),):
        raise ValueError(f"output {tensor.name} has {tensor.shape[:1]} rows, not {sum(rows)}")
    trailing = tensor.shape[1:]
    ends = _row_ends(tensor, math.prod(trailing))
    pieces, row, start = [], 0, 0
    for count in rows:
        row += count
        end = ends(row)
        pieces.append(
            TensorRecord(tensor.name, tensor.datatype, (count, *trailing), tensor.data[start:end])
        )
        start = end
    return pieces


def _row_ends(tensor: TensorRecord, elements_a_row: int) -> Callable[[int], int]:
    size = DATATYPES[tensor.datatype].itemsize_bytes
    if size:
        return lambda row: row * elements_a_row * size
    offsets, at = [0], 0
    for _ in range(tensor.shape[0]):
        for _ in range(elements_a_row):
            at += 4 + int(_LENGTH.unpack_from(tensor.data, at)[0])
        offsets.append(at)
    return offsets.__getitem__
