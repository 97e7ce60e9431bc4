-- When a key was used, as far as it was kept.
select first_used_at, used_at, sources_forgotten from projection.key_used where key_id = $1
