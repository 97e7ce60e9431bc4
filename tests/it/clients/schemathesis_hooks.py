"""What schemathesis does to a request before it is sent; see tests/it/schemathesis.rs."""

import itertools
import re

import schemathesis

COUNT = itertools.count()
HEADER = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Each command is a new one: it likes some keys so much that most of what it sent would be answered 422."""
    key = (case.headers or {}).get(HEADER)
    # What is no key stays none. Every eighth stays as it is too, and is the same key for another request.
    if isinstance(key, str) and re.fullmatch("[!-~]{1,200}", key) and (count := next(COUNT)) % 8:
        case.headers[HEADER] = f"{count}-{key}"
    # What is no id stays none. Of what could be one hardly any is, and most of what it sent would be answered 404.
    incident = (case.headers or {}).get("Portcullis-Incident")
    if isinstance(incident, str) and re.fullmatch("[A-Za-z0-9._-]{1,64}", incident) and next(COUNT) % 8:
        case.headers["Portcullis-Incident"] = "asked-0"
    # Nobody writes what it would wait for, and a position that does not come is answered 504, as documented: a failure to
    # whoever takes every 5xx for one. What is no position stays what it is.
    query = case.query or {}
    if re.fullmatch("[0-9]+", str(query.get("at_least", ""))):
        query["at_least"] = 0
    # Of what is only foreseen nothing comes that the next request could be about: three of four are done.
    if str(query.get("dry_run", "")).lower() == "true" and next(COUNT) % 4:
        del query["dry_run"]
    # A fence over all of them would end the very credentials that the other operations are asked with.
    body = case.body
    if case.path == "/v1/fences" and isinstance(body, dict) and body.get("scope") in ("everything", "pool:default"):
        if body.get("dry_run") in (None, False):
            body["dry_run"] = True
