-- What a reader folds, in order. The columns after the leaf hash are compared with the entry.
select position, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, pool, actor, incident,
       command_id
  from log.event
 where position >= $1 and position < $2
 order by position
