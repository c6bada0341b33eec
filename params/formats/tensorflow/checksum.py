"""The checksum that TensorFlow stores beside what it writes."""

import google_crc32c
import numpy as np

_CHUNK = 1 << 20  # bytes that are copied at a time: the library takes only what cannot change


def masked_crc32c(data: memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of contiguous bytes, masked as LevelDB does, so that the CRC of data that
    holds its own CRC is no special value."""
    data, crc = np.frombuffer(data, np.uint8), 0
    for start in range(0, data.size, _CHUNK):
        crc = google_crc32c.extend(crc, data[start : start + _CHUNK].tobytes())
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
