-- From where they were known to be, or not at all; and not beyond the end of the log: rows may be of what the node knows, and a
-- database that was left behind does not hold all of that.
update projection.cursor
   set position = $3
 where schema_name = any ($1) and position = $2
   and exists (select from log.head where next_position >= $3)
