-- The seal of one event, for whoever remembers what it was.
select mac from log.event where position = $1
