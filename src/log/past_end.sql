-- The first event that stands where none is yet: at the position that the head names as the next, or after it. Both in one
-- statement, so that an append in between does not look like one.
select e.position
  from log.event e
 where e.position >= (select next_position from log.head)
 order by e.position
 limit 1
