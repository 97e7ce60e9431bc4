-- What is known and what is new: other nodes count too. A key that was used before first uses were noted stays without one.
insert into projection.key_used (key_id, first_used_at, used_at, sources_forgotten)
select * from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[])
    on conflict on constraint key_used_pkey do update set
       first_used_at = case when key_used.used_at is not null and key_used.first_used_at is null then null
                            else least(key_used.first_used_at, excluded.first_used_at) end,
       used_at = greatest(key_used.used_at, excluded.used_at),
       sources_forgotten = key_used.sources_forgotten + excluded.sources_forgotten
