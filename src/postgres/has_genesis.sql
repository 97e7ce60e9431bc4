-- Whether the schema of the log is there at all, and whether a restore has begun here that has not ended.
select to_regclass('log.genesis') is not null as has_log,
       exists (select from pg_namespace where nspname = 'portcullis_restore') as is_half_restored
