-- From where these keys came, the newest first.
select key_id, address, first_seen_at, last_seen_at
  from projection.key_source
 where key_id = any($1)
 order by last_seen_at desc, address, key_id
 limit $2
