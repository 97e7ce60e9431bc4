-- What marks a database as half restored.
create schema if not exists portcullis_restore
