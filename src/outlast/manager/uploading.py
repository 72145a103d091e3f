"""Images that people send: passed on to the pool's storage piece by piece, kept nowhere here.

Rules:
1. Of a body of any length no more than PIECE is held in memory; the next piece is read when the
   pool has the last one on its storage.
2. Whatever breaks it off, what has come stays on the storage, and is no image: whoever begins again
   with the same file is told how much of it is there, and goes on behind that.
3. Any agent may take the next piece. One that was taken twice is refused, and nothing is harmed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from outlast.manager.asking import Pools
from outlast.wire.images import ImageClient, UploadStatus, UploadWish

PIECE = 4 << 20


async def begin(pools: Pools, pool_id: str, image: str, wish: UploadWish) -> UploadStatus:
    """Begin, or find out how much is there. Raises Conflict, InvalidInput, StorageTrouble."""
    return await pools.ask(pool_id, lambda c: ImageClient(c).begin(image, wish))


async def append(
    pools: Pools, pool_id: str, image: str, offset: int, chunks: AsyncIterator[bytes]
) -> UploadStatus:
    """Send from there on; how much is there then.

    Raises Conflict for another place, InvalidInput, NotFound, Unreachable, StorageTrouble.
    """
    waiting = bytearray()

    async def send(at: int, piece: bytes) -> UploadStatus:
        return await pools.ask(
            pool_id, lambda c: ImageClient(c).send(image, at, iter([piece]), len(piece))
        )

    async for data in chunks:
        waiting += data
        while len(waiting) >= PIECE:
            offset = (await send(offset, bytes(waiting[:PIECE]))).got_bytes
            del waiting[:PIECE]
    return await send(offset, bytes(waiting))
