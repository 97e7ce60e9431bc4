-- Oldest first: what was done for an incident, by the index event_incident_position; of one kind, and about one subject, if given. A key may stand on
-- a list of a plan's.
select e.position, e.entry, e.mac, e.recorded_at, e.kind, e.schema, e.subject_kind, e.subject_id, e.pool, e.actor,
       e.incident, e.command_id,
       (select before.mac from log.event before where before.position = e.position - 1) as previous_mac,
       case when e.position = 0 then (select log_id from log.genesis) end as log_id
  from log.event e
 where e.position >= $1 and e.position < $2
   and e.incident = $4 and ($5::text is null or e.kind = $5)
   and ($6::text is null
        or (e.subject_kind = $6 and e.subject_id = $7)
        or ($8::text is not null and e.subject_kind = 'plan' and e.kind = 'key.revoked'
            and position(convert_to('"' || $8 || '"', 'UTF8') in e.entry) > 0))
 order by e.position
 limit $3
