-- What a reader folds who is near the head, in order: as in `read.sql`.
select position, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, pool, actor, incident,
       command_id
  from log.event
 where position >= $1
 order by position
 limit $2
