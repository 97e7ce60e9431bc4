-- The moment that a backup is of, for others to look at too.
select pg_export_snapshot() as snapshot, current_setting('server_version') as server_version
