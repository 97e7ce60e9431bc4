-- For people: how far each node is, and how far the log.
select node_id, name, node.version, address, applied, leased, lease_ms, started_at, renewed_at, head.next_position,
       renewed_at + lease_ms * interval '1 millisecond' < now() as silent
  from log.node cross join log.head
 order by name, node_id
