"""Verifies messages as the specification of Standard Webhooks 1.0.0 says, by the standard library alone."""

import base64
import hashlib
import hmac
import json
import sys

given = json.load(sys.stdin)
secret = base64.b64decode(given["secret"].removeprefix("whsec_"), validate=True)


def good(message):
    signed = f"{message['id']}.{message['timestamp']}.{message['body']}".encode()
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    versions = [part.split(",", 1) for part in message["signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, expected) for version, value in versions)


json.dump([good(message) for message in given["messages"]], sys.stdout)
