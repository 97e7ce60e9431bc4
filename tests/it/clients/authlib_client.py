"""A generic OAuth 2.0 client: finds the endpoints, gets a token, has it looked at, revokes it, and has it looked at again."""

import json
import sys

from authlib.integrations.requests_client import OAuth2Session

asked = json.load(sys.stdin)
answers = []
for method in ["client_secret_basic", "client_secret_post"]:
    client = OAuth2Session(asked["id"], asked["secret"], token_endpoint_auth_method=method, scope=asked["scope"])
    client.verify = asked["ca"]
    # With REQUESTS_CA_BUNDLE in the environment, requests would not look at `verify`.
    client.trust_env = False
    metadata = client.get(asked["metadata"], withhold_token=True).json()
    granted = client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    token = granted["access_token"]
    before = client.introspect_token(metadata["introspection_endpoint"], token=token).json()
    revoked = client.revoke_token(metadata["revocation_endpoint"], token=token).status_code
    after = client.introspect_token(metadata["introspection_endpoint"], token=token).json()
    answers.append({"granted": dict(granted), "before": before, "revoked": revoked, "after": after})

wrong = OAuth2Session(asked["id"], asked["secret"][:-1] + "!", token_endpoint_auth_method="client_secret_basic")
wrong.verify = asked["ca"]
wrong.trust_env = False
try:
    wrong.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    error = None
except Exception as refused:
    error = getattr(refused, "error", repr(refused))
json.dump({"answers": answers, "wrong": error}, sys.stdout)
