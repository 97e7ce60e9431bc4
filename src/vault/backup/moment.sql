-- The moment that a backup is of, for others to look at too; and whether there is a log.
select pg_export_snapshot() as snapshot, current_setting('server_version') as server_version,
       to_regclass('log.genesis') is not null as has_log
