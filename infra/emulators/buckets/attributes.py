"""Extended attributes of an open file: Python has them on Linux alone."""

import ctypes
import os
import sys

if sys.platform == "darwin":
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.fgetxattr.restype = ctypes.c_ssize_t
    _LARGEST = 64 << 10

    def read(fd: int, name: str) -> bytes:
        """Raises OSError: there is none."""
        value = ctypes.create_string_buffer(_LARGEST)
        size = _libc.fgetxattr(fd, name.encode(), value, ctypes.c_size_t(_LARGEST), 0, 0)
        if size < 0:
            raise OSError(ctypes.get_errno(), f"fgetxattr of {name}")
        return value.raw[:size]

    def write(fd: int, name: str, value: bytes) -> None:
        """Raises OSError: the file may not be changed, or its file system has none."""
        if _libc.fsetxattr(fd, name.encode(), value, ctypes.c_size_t(len(value)), 0, 0) < 0:
            raise OSError(ctypes.get_errno(), f"fsetxattr of {name}")

else:

    def read(fd: int, name: str) -> bytes:
        """Raises OSError: there is none."""
        return os.getxattr(fd, name)

    def write(fd: int, name: str, value: bytes) -> None:
        """Raises OSError: the file may not be changed, or its file system has none."""
        os.setxattr(fd, name, value)
