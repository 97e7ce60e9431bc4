"""Sends packets without end, and says `up` and `down`, with the moment of the last answer, as answers come and stay away."""

import socket
import sys
import time

MISSED = 20
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.settimeout(0.01)
state, last, missed = None, 0.0, 0
while True:
    now = state
    try:
        probe.sendto(b"x", (sys.argv[1], 7777))
        probe.recv(64)
        now, last, missed = "up", time.time(), 0
        time.sleep(0.005)
    except OSError:
        missed += 1
        time.sleep(0.01)
        if missed >= MISSED:
            now = "down"
    if now != state:
        state = now
        print(state, last, flush=True)
