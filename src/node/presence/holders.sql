-- Whose lease may still be good; and where the log ends, so that whoever asks a database that was left behind notices it.
select node_id, name, applied, renewals, lease_ms, head.next_position
  from log.node cross join log.head
 where leased
 order by node_id
