-- The head's version counts appends, and every node remembers the highest that it has seen. How many there were cannot be
-- told from the entries, so it goes on from the time in microseconds, which no count of appends overtakes.
update log.head
   set version = greatest(version + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
