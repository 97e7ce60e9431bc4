-- Whether there are the tables of a log.
select to_regclass('log.genesis') is not null
