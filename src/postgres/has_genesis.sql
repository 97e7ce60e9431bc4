-- Whether the schema of the log is there at all.
select to_regclass('log.genesis') is not null
