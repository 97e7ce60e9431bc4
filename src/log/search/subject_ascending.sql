-- Oldest first: the events of a subject, by the index event_subject_position; of one kind, if one is given. A key that a plan
-- has revoked stands on one list of the plan's, which only the entry has: whoever reads the answer looks whether it does.
select e.position, e.entry, e.mac, e.recorded_at, e.kind, e.schema, e.subject_kind, e.subject_id, e.pool, e.actor,
       e.incident, e.command_id,
       (select before.mac from log.event before where before.position = e.position - 1) as previous_mac,
       case when e.position = 0 then (select log_id from log.genesis) end as log_id
  from (
    (select position
       from log.event
      where position >= $1 and position < $2
        and subject_kind = $4 and subject_id = $5 and ($6::text is null or kind = $6)
      order by position
      limit $3)
    union all
    (select position
       from log.event
      where position >= $1 and position < $2
        and subject_kind = 'plan' and kind = 'key.revoked' and ($6::text is null or $6 = 'key.revoked')
        and $7::text is not null and position(convert_to('"' || $7 || '"', 'UTF8') in entry) > 0
      order by position desc
      limit 1)
     order by position
     limit $3
  ) found
  join log.event e using (position)
 order by e.position
