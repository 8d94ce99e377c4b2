"""One stream each way over AF_VSOCK (vsock(7)) between host and guest; says what it sent and got: CRC-32 and bytes.

It imports only what is built into the interpreter: in the guest there is no library.
"""

import _socket
import posix
import sys
import time
import zlib

HOST, ANY, PORT, SIZE = 2, 0xFFFFFFFF, 7077, 256 * 1024


def receive(stream):
    parts = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)


def send(stream, data):
    stream.sendall(data)
    stream.shutdown(_socket.SHUT_WR)


def connected():
    for _ in range(60):
        stream = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM, 0)
        try:
            stream.connect((HOST, PORT))
            return stream
        except OSError:
            stream.close()
            time.sleep(0.5)
    raise SystemExit("the host does not listen")


def accepted():
    listener = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM, 0)
    listener.bind((ANY, PORT))
    listener.listen(1)
    descriptor, _ = listener._accept()
    return _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM, 0, descriptor)


data = posix.urandom(SIZE)
if sys.argv[1] == "guest":
    with_peer = connected()
    send(with_peer, data)
    got = receive(with_peer)
else:
    with_peer = accepted()
    got = receive(with_peer)
    send(with_peer, data)
sys.stdout.write(f"sent {zlib.crc32(data):08x} {len(data)} received {zlib.crc32(got):08x} {len(got)}\n")
