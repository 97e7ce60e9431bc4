-- When each of these keys was last used, as far as it was kept.
select key_id, used_at from projection.key_used where key_id = any($1::text[]) and used_at is not null
