-- Rows as they are at the cursor that moves with them.
insert into worker
select * from json_populate_recordset(null::worker, $1::text::json)
    on conflict on constraint worker_pkey do update set
       (pool, name, labels, state, isolated_until, expires_at, member, created_at, created, enrolled_by, keys_issued,
        keys_end_at, shared_keys)
     = (excluded.pool, excluded.name, excluded.labels, excluded.state, excluded.isolated_until, excluded.expires_at,
        excluded.member, excluded.created_at, excluded.created, excluded.enrolled_by, excluded.keys_issued,
        excluded.keys_end_at, excluded.shared_keys)
