"""Time cut into short blocks, in some of which the shadow is switched off, at random.

A round is a fixed number of blocks, and exactly one of them, drawn by a keyed hash, is off: a
randomised block design, in which whatever changes slowly touches both kinds of blocks alike.
Which one it is follows from the seed and the number of the round alone, so that the schedule
can be recomputed from what a status says of it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec


class Block(NamedTuple):
    """One block; `round` and `place` count from 0, times are µs since the epoch."""

    round: int
    place: int
    start_us: int
    end_us: int
    is_off: bool


class Schedule(msgspec.Struct, frozen=True):
    """All blocks of all time. `seed` is any 64-bit number."""

    seed: int
    block_us: int = 1_000_000
    blocks: int = 20

    @property
    def round_us(self) -> int:
        """How long a round takes."""
        return self.block_us * self.blocks

    def block_at(self, at_us: int) -> Block:
        """The block that a moment lies in."""
        number = at_us // self.block_us
        turn, place = divmod(number, self.blocks)
        start_us = number * self.block_us
        return Block(turn, place, start_us, start_us + self.block_us, place == self.off_place(turn))

    def off_block(self, turn: int) -> Block:
        """The one block of a round in which the shadow is off."""
        return self.block_at(turn * self.round_us + self.off_place(turn) * self.block_us)

    def off_place(self, turn: int) -> int:
        """Its place among the blocks of the round."""
        key = self.seed.to_bytes(8, "little")
        digest = blake2b(turn.to_bytes(8, "little"), digest_size=8, key=key).digest()
        return int.from_bytes(digest, "little") % self.blocks
