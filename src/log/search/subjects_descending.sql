-- Newest first: the events of any of these subjects, by the index event_subject_position.
select e.position, e.entry, e.mac, e.recorded_at, e.kind, e.schema, e.subject_kind, e.subject_id, e.pool, e.actor,
       e.incident, e.command_id,
       (select before.mac from log.event before where before.position = e.position - 1) as previous_mac,
       case when e.position = 0 then (select log_id from log.genesis) end as log_id
  from unnest($3::text[], $4::text[]) as asked (kind, id)
  join log.event e on e.subject_kind = asked.kind and e.subject_id = asked.id
 where e.position < $1
 order by e.position desc
 limit $2
