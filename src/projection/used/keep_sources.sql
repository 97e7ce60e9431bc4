-- From where keys came, together with what other nodes have seen.
insert into projection.key_source (key_id, address, first_seen_at, last_seen_at)
select * from unnest($1::text[], $2::inet[], $3::timestamptz[], $4::timestamptz[])
    on conflict on constraint key_source_pkey do update set
       first_seen_at = least(key_source.first_seen_at, excluded.first_seen_at),
       last_seen_at = greatest(key_source.last_seen_at, excluded.last_seen_at)
