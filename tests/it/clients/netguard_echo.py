"""Answers every packet: the server behind the gateway."""

import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7777))
print("ready", flush=True)
while True:
    data, sender = server.recvfrom(64)
    server.sendto(data, sender)
