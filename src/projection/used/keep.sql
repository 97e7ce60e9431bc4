-- The later of what is known and what is new: other nodes count too.
insert into projection.key_used
select * from unnest($1::text[], $2::timestamptz[])
    on conflict on constraint key_used_pkey do update set used_at = excluded.used_at
 where key_used.used_at < excluded.used_at
