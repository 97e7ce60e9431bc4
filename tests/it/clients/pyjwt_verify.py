"""Verifies an access token as a service in Python would: PyJWT, with the keys that its JWKS client fetches over HTTPS."""

import json
import ssl
import sys

import jwt

asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile=asked["ca"])
keys = jwt.PyJWKClient(asked["jwks_uri"], ssl_context=context)
answers = []
for token in asked["tokens"]:
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=asked["algorithms"],
            audience=asked["audience"],
            issuer=asked["issuer"],
            options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
        )
        answers.append({"ok": True, "header": jwt.get_unverified_header(token), "claims": claims})
    except jwt.PyJWTError as error:
        answers.append({"ok": False, "error": type(error).__name__, "text": str(error)})
json.dump(answers, sys.stdout)
