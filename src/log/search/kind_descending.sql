-- Newest first: the events of a kind, by the index event_kind_position.
select e.position, e.entry, e.mac, e.recorded_at, e.kind, e.schema, e.subject_kind, e.subject_id, e.pool, e.actor,
       e.incident, e.command_id,
       (select before.mac from log.event before where before.position = e.position - 1) as previous_mac,
       case when e.position = 0 then (select log_id from log.genesis) end as log_id
  from log.event e
 where e.position >= $1 and e.position < $2 and e.kind = $4
 order by e.position desc
 limit $3
