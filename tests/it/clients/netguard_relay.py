"""Carries connections out of a network namespace, by a socket that lies in the file system: port, path."""

import socket
import sys
import threading


def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    inside, _ = listener.accept()
    outside = socket.socket(socket.AF_UNIX)
    try:
        outside.connect(sys.argv[2])
    except OSError:
        inside.close()
        continue
    for pair in ((inside, outside), (outside, inside)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
