-- Keys that were last shown from this address, and not too long ago; the newest first.
select seen.key_id
  from projection.key_source seen
 where seen.address = $1
   and seen.last_seen_at >= $2
   and not exists (
       select from projection.key_source later
        where later.key_id = seen.key_id and later.last_seen_at > seen.last_seen_at
   )
 order by seen.last_seen_at desc, seen.key_id
 limit $3
