-- Rows as they are at the cursor that moves with them.
insert into enrollment_secret
select * from json_populate_recordset(null::enrollment_secret, $1::text::json)
    on conflict on constraint enrollment_secret_pkey do update set
       (pool, state, overlap_until, cidrs, name_pattern, uses_max, uses, pending, expires_at, approval, created_at,
        issued, refused_below, parent)
     = (excluded.pool, excluded.state, excluded.overlap_until, excluded.cidrs, excluded.name_pattern,
        excluded.uses_max, excluded.uses, excluded.pending, excluded.expires_at, excluded.approval,
        excluded.created_at, excluded.issued, excluded.refused_below, excluded.parent)
