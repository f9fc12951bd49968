from collections.abc import Callable

crc32c_c: Callable[[bytes], int] | None
