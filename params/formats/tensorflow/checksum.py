"""The checksum that TensorFlow stores beside what it writes."""

import google_crc32c
import numpy as np

_CHUNK = 1 << 20  # bytes that are copied at a time: the library takes only what cannot change


def masked_crc32c(data: memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of contiguous bytes, masked as LevelDB does, so that the CRC of data that
    holds its own CRC is no special value."""
    view, crc = memoryview(data).cast("B"), 0
    for start in range(0, len(view), _CHUNK):
        crc = google_crc32c.extend(crc, bytes(view[start : start + _CHUNK]))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
