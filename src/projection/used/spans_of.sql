-- When each of these keys was first and last used, as far as it was kept.
select key_id, coalesce(first_used_at, used_at), used_at
from projection.key_used
where key_id = any($1::text[]) and used_at is not null
