-- Makes the partitions that are missing for positions up to the one given.
select log.make_partitions($1)
