-- Rows as they are at the cursor that moves with them.
insert into key
select * from json_populate_recordset(null::key, $1::text::json)
    on conflict on constraint key_pkey do update set
       (issued, kind, worker, sharers, enrolled_by, sharers_by, operator, pool, state, overlap_until, expires_at, ends_at,
        created_at, parent, derived, shared)
     = (excluded.issued, excluded.kind, excluded.worker, excluded.sharers, excluded.enrolled_by, excluded.sharers_by,
        excluded.operator, excluded.pool, excluded.state, excluded.overlap_until, excluded.expires_at,
        excluded.ends_at, excluded.created_at, excluded.parent, excluded.derived, excluded.shared)
