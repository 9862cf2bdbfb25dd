"""The words that an attendant and those outside speak with: numbers and lengths, nothing else.

A connection is a row of frames: type (1 byte), length (4 bytes, big-endian), payload. The first one is a REQUEST, words
separated by NUL: `exec TTY ROWS COLUMNS CWD N` with N arguments and then NAME=VALUE…; `attach`; or `dial PORT`.
exec takes STDIN (an empty one is its end), RESIZE, SIGNAL and gives STDOUT, STDERR and at last EXITED or FAILED; attach
takes STDIN and RESIZE for the container's own command; dial gives CONNECTED or FAILED, and from then on bare bytes.
"""

STDIN, STDOUT, STDERR, EXITED, RESIZE, SIGNAL, FAILED, CONNECTED, REQUEST = range(9)
HEADER_BYTES = 5
LARGEST_FRAME = 1 << 20  # a request holds arguments and variables; no other frame comes near it
CHUNK = 65536


def frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(4, "big") + payload
