-- When a key was last used, as far as it was kept.
select used_at from projection.key_used where key_id = $1
