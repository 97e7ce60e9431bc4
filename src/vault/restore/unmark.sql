-- From here on a service starts on it.
drop schema portcullis_restore cascade
